//! Clients that mean no good, or know no better, beside those that do.

use tokio::net::tcp::OwnedReadHalf;

use super::*;

fn head(version: &str, length: usize) -> String {
    format!("POST {CHAT} HTTP/{version}\r\nhost: t\r\ncontent-length: {length}\r\n\r\n")
}

fn written(version: &str, request: &Value) -> String {
    let request = request.to_string();
    head(version, request.len()) + &request
}

/// Sends this, and that there is no more.
async fn last_words(address: SocketAddr, bytes: &str) -> OwnedReadHalf {
    let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    write.write_all(bytes.as_bytes()).await.unwrap();
    write.shutdown().await.unwrap();
    read
}

async fn all(mut read: OwnedReadHalf) -> String {
    let mut said = String::new();
    read.read_to_string(&mut said).await.unwrap();
    said
}

/// Waits that none of these tests lives to see.
fn patient(settings: &mut Settings) {
    settings.limits.header_s = Seconds::new(3600);
    settings.limits.body_s = Seconds::new(3600);
}

#[test]
fn idle_connections_make_room_for_whoever_comes() {
    let narrow = |s: &mut Settings| {
        patient(s);
        s.limits.connections = 2;
    };
    on_stage("", narrow, async |stage| {
        let mut silent = TcpStream::connect(stage.address).await.unwrap();
        let mut slow = TcpStream::connect(stage.address).await.unwrap();
        slow.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
        for _ in 0..3 {
            assert_eq!(get(stage.address, "/livez").await.status(), 200);
        }
        let mut byte = [0];
        assert_eq!(silent.read(&mut byte).await.unwrap(), 0);
        // Closed before what it sent was read, or after.
        assert!(matches!(slow.read(&mut byte).await, Ok(0) | Err(_)));
    });
}

#[test]
fn connections_that_are_being_answered_make_no_room() {
    let narrow = |s: &mut Settings| {
        patient(s);
        s.limits.connections = 1;
    };
    on_stage("", narrow, async |stage| {
        let whole = ask("wait for cancel", json!({}));
        let waiting = tokio::spawn(async move { post(stage.address, CHAT, &whole).await });
        stage.service.wait_for(|s| s.running).await;
        let next = tokio::spawn(async move { get(stage.address, "/livez").await.status() });
        // The newcomer has come, and whoever is answered is so still.
        TcpStream::connect(stage.address).await.unwrap();
        assert!(!waiting.is_finished() && !next.is_finished());
        waiting.abort();
        assert_eq!(next.await.unwrap(), 200);
    });
}

#[test]
fn bodies_that_do_not_come_keep_nobody_waiting() {
    on_stage("", patient, async |stage| {
        let mut held = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(stage.address).await.unwrap();
            stream.write_all(head("1.1", 2 << 20).as_bytes()).await.unwrap();
            stream.write_all(b"{").await.unwrap();
            held.push(stream);
        }
        let answer = post(stage.address, CHAT, &ask("hello", json!({}))).await;
        assert_eq!(answer.status(), 200);
    });
}

#[test]
fn a_body_of_very_many_values_is_refused() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let many = json!({"model": "m", "messages": [], "context": vec![0; 70_000]});
            let refused = post(stage.address, CHAT, &many).await;
            assert_eq!(refused.status(), 413);
            assert_eq!(body(refused).await["error"]["code"], "request_too_large");
            // Within text they are none.
            let text = post(stage.address, CHAT, &ask(&"[\",{\\".repeat(20_000), json!({}))).await;
            assert_eq!(text.status(), 200);
        },
    );
}

#[test]
fn whoever_has_said_all_still_gets_the_answer() {
    let hasty = |s: &mut Settings| s.limits.request_timeout_s = Seconds(Duration::from_millis(500));
    on_stage("", hasty, async |stage| {
        stage.service.wait_for(|s| s.ready).await;
        for stream in [false, true] {
            let asked = written("1.1", &ask("hello", json!({"stream": stream})));
            let said = all(last_words(stage.address, &asked.repeat(3)).await).await;
            assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 3, "{said}");
            // This answer takes its time.
            let asked = written("1.1", &ask("wait for cancel", json!({"stream": stream})));
            let said = all(last_words(stage.address, &asked).await).await;
            assert!(said.contains("request_timeout"), "{said}");
        }
        let page = "GET /openapi.json HTTP/1.1\r\nhost: t\r\n\r\n";
        let said = all(last_words(stage.address, page).await).await;
        serde_json::from_str::<Value>(said.split_once("\r\n\r\n").unwrap().1).unwrap();
    });
}

#[test]
fn whoever_left_while_its_answer_was_made_is_noticed() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            for (left, version) in (1..).zip(["1.1", "1.0"]) {
                let asked = written(version, &ask("wait for cancel", json!({})));
                let reading = last_words(stage.address, &asked).await;
                if version == "1.1" {
                    stage.service.wait_for(|s| s.running).await;
                    drop(reading);
                }
                stage.service.wait_for(|s| s.counters.abandoned == left && !s.running).await;
            }
        },
    );
}
