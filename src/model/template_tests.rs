use super::*;
use std::time::{Duration, UNIX_EPOCH};

/// In the manner of Qwen 2.5: a default system prompt, tool results joined into user turns.
const QWEN25: &str = include_str!("../../tests/templates/qwen2_5.jinja");

/// In the manner of Qwen 3: reverse iteration, namespaces, Python string methods, and earlier
/// reasoning left out.
const QWEN3: &str = include_str!("../../tests/templates/qwen3.jinja");

/// In the manner of Llama 3: a date, headers, trimmed contents.
const LLAMA3: &str = include_str!("../../tests/templates/llama3.jinja");

/// In the manner of Gemma: no system role, strict alternation.
const GEMMA: &str = include_str!("../../tests/templates/gemma.jinja");

/// In the manner of Mistral: loop controls, the system prompt before the last user message.
const MISTRAL: &str = include_str!("../../tests/templates/mistral.jinja");

fn new_year() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

fn template(source: &str) -> Template {
    let globals =
        Globals { bos_token: "<s>".to_owned(), eos_token: "</s>".to_owned(), has_think_token: true };
    Template::new(source, globals, new_year).unwrap()
}

fn messages(list: &[(Role, &str)]) -> Vec<Message> {
    list.iter().map(|&(role, text)| Message::text(role, text)).collect()
}

fn rendered(source: &str, list: &[(Role, &str)]) -> String {
    template(source).render(&messages(list), &[], Think::Default).unwrap()
}

use Role::{Assistant, Developer, System, Tool, User};

#[test]
fn qwen_2_5_style() {
    assert_eq!(
        rendered(QWEN25, &[(User, "hi")]),
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
    // Two user messages in a row and a developer message are served as they are.
    assert_eq!(
        rendered(QWEN25, &[(Developer, "Be brief."), (User, "a"), (User, "b")]),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>\n\
         <|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn tool_calls_and_results() {
    let mut list = messages(&[(System, "S"), (User, "u"), (Assistant, ""), (Tool, "21"), (Tool, "22")]);
    list[2].tool_calls.push(ToolCall {
        id: "call_1".to_owned(),
        name: "weather".to_owned(),
        arguments: r#"{"city":"Köln <&'> \\u003c","n":[1,2.5]}"#.to_owned(),
    });
    let text = template(QWEN25).render(&list, &[], Think::Default).unwrap();
    assert!(
        text.contains(
            "<|im_start|>assistant\n<tool_call>\n{\"name\": \"weather\", \"arguments\": \
             {\"city\": \"Köln <&'> \\\\u003c\", \"n\": [1, 2.5]}}\n</tool_call><|im_end|>\n"
        ),
        "{text}"
    );
    assert!(text.contains(
        "<|im_start|>user\n<tool_response>\n21\n</tool_response>\n<tool_response>\n22\n</tool_response><|im_end|>\n"
    ));
}

#[test]
fn qwen_3_style_leaves_earlier_reasoning_out_and_has_a_switch() {
    let list = messages(&[(User, "a"), (Assistant, "<think>\nhm\n</think>\n\nb"), (User, "c")]);
    let base = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n\
                <|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n";
    let template = template(QWEN3);
    assert!(template.thinks());
    assert_eq!(template.render(&list, &[], Think::Default).unwrap(), base);
    assert_eq!(template.render(&list, &[], Think::On).unwrap(), base);
    assert_eq!(template.render(&list, &[], Think::Off).unwrap(), format!("{base}<think>\n\n</think>\n\n"));
    // Behind the last query reasoning stays, wherever it came from.
    let mut step = messages(&[(User, "a"), (Assistant, "b")]);
    step[1].reasoning = Some("hm".to_owned());
    let text = template.render(&step, &[], Think::Default).unwrap();
    assert!(text.contains("assistant\n<think>\nhm\n</think>\n\nb<|im_end|>"), "{text}");
}

#[test]
fn llama_3_style_asks_for_the_date() {
    assert_eq!(
        rendered(LLAMA3, &[(System, " Be brief. "), (User, "hi ")]),
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday: 01 Jan 2026\nBe brief.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
}

#[test]
fn templates_that_refuse_a_conversation_serve_it_all_the_same() {
    assert_eq!(
        rendered(GEMMA, &[(System, "S"), (User, "a"), (User, "b"), (Assistant, "c"), (User, "d")]),
        "<s><start_of_turn>user\nS\n\na\n\nb<end_of_turn>\n<start_of_turn>model\nc<end_of_turn>\n\
         <start_of_turn>user\nd<end_of_turn>\n<start_of_turn>model\n"
    );
    assert_eq!(
        rendered(MISTRAL, &[(System, "S"), (User, "a"), (User, "b"), (Assistant, "c"), (User, "d")]),
        "<s>[INST] a\n\nb[/INST] c</s>[INST] S\n\nd[/INST]"
    );
    assert_eq!(
        rendered(GEMMA, &[(Assistant, "Hello!"), (User, "hi")]),
        "<s><start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n\
         <start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n"
    );
}

#[test]
fn what_no_shape_satisfies_is_reported_in_the_templates_words() {
    let failure =
        template("{{ raise_exception('Never!') }}").render(&messages(&[(User, "a")]), &[], Think::Default);
    let failure = failure.unwrap_err();
    assert_eq!(failure.fault, Fault::Template);
    assert!(failure.detail.contains("it refuses: Never!"), "{}", failure.detail);
    let broken = Template::new("{% if %}", Globals::default(), new_year).err().unwrap();
    assert_eq!(broken.fault, Fault::Template);
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let nested =
        "{% for a in range(100000) %}{% for b in range(100000) %}{% set c = a %}{% endfor %}{% endfor %}";
    let failure = template(nested).render(&messages(&[(User, "a")]), &[], Think::Default).unwrap_err();
    assert!(failure.detail.contains("fuel"), "{}", failure.detail);
}

#[test]
fn a_conversation_of_days_does_not_run_out_of_fuel() {
    let list: Vec<Message> =
        (0..4000).map(|i| Message::text(if i % 2 == 0 { User } else { Assistant }, "x")).collect();
    for source in [QWEN25, QWEN3, LLAMA3, GEMMA, MISTRAL] {
        template(source).render(&list, &[], Think::Off).unwrap();
    }
}

#[test]
fn generation_tags_are_plain_blocks() {
    let source = "{% for m in messages %}{%- generation -%}{{ m.content }}{%- endgeneration -%}{% endfor %}";
    assert_eq!(rendered(source, &[(User, "a"), (Assistant, "b")]), "ab");
}

#[test]
fn blocks_are_trimmed_as_hugging_face_does() {
    let source =
        "{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\nend\n";
    assert_eq!(rendered(source, &[(User, "a"), (User, "b")]), "a\nb\nend");
}

#[test]
fn chatml_stands_in_for_a_missing_template() {
    let template = template(CHATML);
    let list = messages(&[(System, "S"), (User, "a")]);
    let base = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(template.render(&list, &[], Think::On).unwrap(), base);
    assert_eq!(template.render(&list, &[], Think::Off).unwrap(), format!("{base}<think>\n\n</think>\n\n"));
    assert!(template.thinks());
    assert!(!Template::new(CHATML, Globals::default(), new_year).unwrap().thinks());
}
