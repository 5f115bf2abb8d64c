use super::*;

fn problems(text: &str) -> Vec<String> {
    let (_, problems) = Config::parse(text, Path::new("c.toml"));
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_is_the_default() {
    let (config, problems) = Config::parse("", Path::new("c.toml"));
    assert_eq!((config, problems), (Config::default(), vec![]));
}

#[test]
fn the_installations_defaults_hold() {
    let defaults = Config::default().defaults;
    assert_eq!((defaults.temperature, defaults.top_p, defaults.max_tokens), (Some(0.9), Some(0.95), 100));
}

#[test]
fn every_section_is_read() {
    let text = r#"
        [server]
        listen = ["0.0.0.0:8000", "[::1]:8001"]
        unknown_model = "refuse"
        cors_origins = ["https://Example.org:8443", "null"]
        [[server.spoken_fallback]]
        listen = "[::1]:8001"
        text = "One moment."
        [worker]
        program = "/opt/worker"
        runtime = "./libaxcl_rt.so"
        path = "copy_saving"
        verify = false
        env = { AXCL_EMULATOR = "x" }
        call_s = 2.5
        [model]
        dir = "models/small"
        aliases = ["gpt-4o"]
        context = 512
        [model.descriptor]
        layers = 30
        [defaults]
        top_k = 40
        think = "off"
        deadline_ms = 9000
        [limits]
        overflow = "error"
        queue = 0
        [resident]
        max_tokens = 60
        polled = true
        [log]
        level = "debug"
    "#;
    let (config, problems) = Config::parse(text, Path::new("c.toml"));
    assert_eq!(problems, vec![]);
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!(config.server.unknown_model, UnknownModel::Refuse);
    let sentence = |address: &str| config.server.sentence(address.parse().unwrap());
    assert_eq!((sentence("[::1]:8001"), sentence("0.0.0.0:8000")), (Some("One moment."), None));
    assert_eq!(config.server.cors_origins, ["https://example.org:8443", "null"]);
    assert_eq!(config.defaults.deadline_ms, 9000);
    assert_eq!((config.model.name().as_str(), config.model.aliases.len()), ("small", 1));
    assert!(config.resident.polled && config.resident.max_tokens == 60);
    assert_eq!(config.worker.path, PathChoice::CopySaving);
    assert_eq!(config.worker.call_s.0.as_millis(), 2500);
    assert_eq!(config.worker.env.get("AXCL_EMULATOR").map(String::as_str), Some("x"));
    assert!(config.model.descriptor.is_some_and(|d| d.contains_key("layers")));
    assert_eq!(config.limits.overflow, crate::chat::Overflow::Error);
    assert_eq!(config.log.level, Level::Debug);
}

#[test]
fn every_problem_is_named_with_its_line_and_what_would_be_right() {
    let text = "\
[server]
listen = []
[limits]
queu = 3
queue = 2000
hold_s = -1
messages = \"many\"
[log]
level = \"loud\"
[sever]
x = 1
";
    let found = problems(text);
    let expected = [
        ("c.toml:2: server.listen: ", "at least one address"),
        ("c.toml:4: limits.queu: ", "`queue`"),
        ("c.toml:5: limits.queue: ", "write 0 to 1000"),
        ("c.toml:6: limits.hold_s: ", "write 0 or more"),
        ("c.toml:7: limits.messages: ", "expected usize"),
        ("c.toml:9: log.level: ", "`error`, `warn`"),
        ("c.toml:10: sever: ", "sections are server, worker"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, (start, remedy)) in found.iter().zip(expected) {
        assert!(line.starts_with(start) && line.contains(remedy), "{line}");
    }
}

#[test]
fn a_wrong_key_leaves_the_others_of_its_section_in_force() {
    let text = "[limits]\nqueue = 3\nmessages = -1\nhold_s = 7\n";
    let (config, problems) = Config::parse(text, Path::new("c.toml"));
    assert_eq!(problems.len(), 1);
    assert_eq!((config.limits.queue, config.limits.hold_s), (3, Seconds::new(7)));
    assert_eq!(config.limits.messages, Limits::default().messages);
}

#[test]
fn a_spoken_fallback_needs_an_address_that_is_listened_on_and_a_text() {
    let text = "\
[server]
listen = [\"127.0.0.1:8000\"]
[[server.spoken_fallback]]
listen = \"127.0.0.1:8001\"
text = \"Hm.\"
[[server.spoken_fallback]]
listen = \"127.0.0.1:8000\"
text = \" \"
";
    let found = problems(text);
    assert!(found[0].contains("127.0.0.1:8001, which is not in `server.listen`"), "{found:#?}");
    assert!(found[1].contains("has no `text`"), "{found:#?}");
    let (config, _) = Config::parse(text, Path::new("c.toml"));
    assert_eq!((config.server.listen.len(), config.server.spoken_fallback.len()), (1, 0));
}

#[test]
fn further_models_are_named_and_wrong_ones_left_out() {
    let text = "
        [model]
        dir = \"/m/large\"
        [[model.others]]
        dir = \"/m/small\"
        aliases = [\"gpt-4o-mini\"]
        [[model.others]]
        dir = \"/n/small\"
        [[model.others]]
        dir = \"/m/third\"
        keep_alive_s = -1
        [[model.others]]
        dir = \"/m/fourth\"
        aliases = [\"large\"]
        [[model.others]]
        dir = \"/\"
    ";
    let found = problems(text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].contains("\"small\" twice"), "{found:#?}");
    assert!(found[1].contains("\"large\" twice"), "{found:#?}");
    assert!(found[2].contains("without a directory"), "{found:#?}");
    let installed = Config::parse(text, Path::new("c.toml")).0.model.installed();
    let told: Vec<_> = installed.iter().map(|model| (model.name.as_str(), model.keep_alive.0)).collect();
    assert_eq!(told, [("large", -1), ("small", 300), ("third", -1)]);
    assert_eq!(installed[1].aliases, ["gpt-4o-mini"]);
}

#[test]
fn what_is_no_origin_lets_no_page_in() {
    for (origins, left) in [
        ("\"https://example.org\"", 0),
        ("3", 0),
        ("[\"example.org\", \"https://example.org\"]", 1),
        ("[\"https://example.org/\"]", 0),
        ("[\"https://\", \"://a\", \"https://a b\", \"\"]", 0),
    ] {
        let text = format!("[server]\ncors_origins = {origins}\n");
        let (config, problems) = Config::parse(&text, Path::new("c.toml"));
        assert_eq!(config.server.cors_origins.len(), left, "{origins}");
        assert!(!problems.is_empty() && problems[0].to_string().contains("server.cors_origins: has"));
    }
    assert_eq!(Config::default().server.cors_origins, ["*"]);
    let (config, problems) = Config::parse("[server]\ncors_origins = []", Path::new("c.toml"));
    assert!(config.server.cors_origins.is_empty() && problems.is_empty());
}

#[test]
fn only_what_needs_a_restart_asks_for_one() {
    const KEY: &str = "[[access.key]]\nname = \"a\"\nsha256 = \"\"";
    let config = |text: &str| Config::parse(text, Path::new("c.toml")).0;
    let started = config("");
    for text in [
        "[server]\nunknown_model = \"refuse\"",
        "[model]\naliases = [\"a\"]\nkeep_alive_s = 9",
        "[model]\ncatalogue = \"https://a/c.json\"\ncatalogue_ca = \"/a\"",
        "[resident]\npolled = true",
        KEY,
    ] {
        assert!(!config(text).needs_restart(&started), "{text}");
    }
    for text in ["[server]\nlisten = [\"127.0.0.1:1\"]", "[model]\nname = \"a\"", "[worker]\ndevice = 1"] {
        assert!(config(text).needs_restart(&started), "{text}");
    }
}

#[test]
fn a_catalogue_has_an_address_and_perhaps_an_authority() {
    let model = |text: &str| {
        let (config, problems) = Config::parse(&format!("[model]\n{text}"), Path::new("c.toml"));
        (config.model.catalogue(), problems.len())
    };
    assert_eq!(model(""), (None, 0));
    let pem = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n";
    for authority in ["/etc/ca.pem", pem] {
        let found =
            model(&format!("catalogue = \"http://10.0.0.1:8000/c.json?x\"\ncatalogue_ca = \"{authority}\""));
        let Catalogue { address, authority } = found.0.unwrap();
        assert_eq!((address.as_str(), found.1), ("http://10.0.0.1:8000/c.json?x", 0));
        assert!(authority.is_some());
    }
    for wrong in [
        "",
        "example.org/c.json",
        "ftp://a/c",
        "https:///c",
        "https://me:word@a/c",
        "http://a/c#d",
        "http://a:99999/c",
    ] {
        assert_eq!(model(&format!("catalogue = \"{wrong}\"")), (None, 1), "{wrong}");
    }
    assert_eq!(model("catalogue = \"http://a/c\"\ncatalogue_ca = \"ca.pem\"").1, 1);
}

#[test]
fn broken_toml_is_named_with_its_line() {
    let found = problems("[limits]\nqueue = \n[log]\nlevel = \"warn\"\n");
    assert!(found.first().is_some_and(|f| f.starts_with("c.toml:2: ")), "{found:#?}");
}

#[test]
fn a_section_that_is_a_value_is_refused() {
    let found = problems("limits = 3\n");
    assert!(
        found[0].contains("c.toml:1: limits: is of type integer: write a section `[limits]`"),
        "{found:#?}"
    );
}

#[test]
fn a_missing_file_means_defaults_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (config, problems) = Config::load(&dir.path().join("none.toml"));
    assert_eq!(config, Config::default());
    assert!(problems[0].to_string().contains("none.toml: cannot be read"), "{problems:?}");
}

#[test]
fn what_a_request_says_goes_before_the_defaults() {
    use crate::chat::{Input, Request, Think};
    let mut request = Request { think: Think::On, ..Request::new(Input::Raw(String::new())) };
    request.sampling.temperature = Some(0.0);
    let defaults = Defaults { think: Think::Off, ..Defaults::default() };
    defaults.apply(&mut request);
    assert_eq!(request.sampling.temperature, Some(0.0));
    assert_eq!(request.sampling.top_p, Some(0.95));
    assert_eq!((request.limits.max_tokens, request.limits.deadline_ms), (Some(100), None));
    assert_eq!(request.think, Think::On);
    let hurried = Defaults { deadline_ms: 9000, ..Defaults::default() };
    hurried.apply(&mut request);
    assert_eq!(request.limits.deadline_ms, Some(9000));
    Defaults { deadline_ms: 5, ..hurried }.apply(&mut request);
    assert_eq!(request.limits.deadline_ms, Some(9000));
}
