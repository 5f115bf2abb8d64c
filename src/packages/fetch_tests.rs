//! With servers that say what they like. TLS: tests/clients/test_pull.py.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Gives one answer after another, a connection each: its address, and the heads that were sent.
async fn server(answers: Vec<String>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut heads = Vec::new();
        let mut open = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap().into());
            }
            heads.push(head);
            stream.write_all(answer.as_bytes()).await.unwrap();
            // What says nothing of its length ends with the connection; others stay open, and silent.
            if answer.contains("length") {
                open.push(stream);
            }
        }
        std::mem::forget(open);
        heads
    });
    (base, serving)
}

fn run<T>(act: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(act)
}

/// What is fetched of `answers`, or why it is not.
async fn fetched(answers: &[&str], from: u64, most: usize) -> (Result<Vec<u8>>, String) {
    let (base, serving) = server(answers.iter().map(|text| (*text).to_owned()).collect()).await;
    let fetcher = Fetcher::new(None, Duration::from_secs(3)).await.unwrap();
    let whole = match fetcher.get(&address(&format!("{base}/a/b?c")).unwrap(), from).await {
        Ok(fetched) => fetched.whole(most).await,
        Err(refusal) => Err(refusal),
    };
    serving.abort();
    let heads = serving.await.map(|heads| heads.concat()).unwrap_or_default();
    (whole, heads)
}

#[test]
fn parts_are_asked_for_and_what_comes_besides_is_left_out() {
    run(async {
        let (whole, head) = fetched(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789"], 0, 9).await;
        assert_eq!(whole.unwrap(), b"123456789");
        assert!(head.starts_with("GET /a/b?c HTTP/1.1\r\n") && !head.contains("range"), "{head}");
        let part = "HTTP/1.1 206 Partial\r\ncontent-range: bytes 4-8/9\r\ncontent-length: 5\r\n\r\n56789";
        let (whole, head) = fetched(&[part], 4, 9).await;
        assert_eq!(whole.unwrap(), b"56789");
        assert!(head.contains("range: bytes=4-\r\n"), "{head}");
        // A server that knows no parts, and tells no length.
        assert_eq!(fetched(&["HTTP/1.1 200 OK\r\n\r\n123456789"], 4, 9).await.0.unwrap(), b"56789");
        for answer in [
            "HTTP/1.1 206 Partial\r\ncontent-range: bytes 3-8/9\r\ncontent-length: 6\r\n\r\n456789",
            "HTTP/1.1 206 Partial\r\ncontent-length: 5\r\n\r\n56789",
            "HTTP/1.1 416 No\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
        ] {
            let refusal = fetched(&[answer], 4, 9).await.0.unwrap_err();
            assert!(refusal.message.contains("from byte 4 on"), "{}", refusal.message);
        }
    });
}

#[test]
fn redirects_are_followed_where_they_may_lead() {
    run(async {
        let to = |to: &str| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        let (whole, head) =
            fetched(&[&to("../d?e"), "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"], 0, 9).await;
        assert_eq!(whole.unwrap(), b"x");
        assert!(head.contains("GET /d?e HTTP/1.1"), "{head}");
        for (to, told) in [
            (to("file:///etc/passwd"), "leads from http to file"),
            (to("https://127.0.0.1/"), "leads from http to https"),
            (to(""), "sent elsewhere more than 5 times"),
            ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".into(), "does not say where"),
        ] {
            let refusal = fetched(&[to.as_str(); 6], 0, 9).await.0.unwrap_err();
            assert!(refusal.message.contains(told), "{}", refusal.message);
        }
    });
}

#[test]
fn nobody_is_waited_for_without_end() {
    run(async {
        for (answer, told) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1234", "stopped coming"),
            ("HTTP/1.1 200 OK\r\ncontent-length", "did not answer within"),
            ("no HTTP at all\r\n\r\n", "cannot be had"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1234567890", "longer than 9 bytes"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n1234\r\n", "broke off"),
        ] {
            let refusal = fetched(&[answer], 0, 9).await.0.unwrap_err();
            assert!(refusal.message.contains(told), "{}", refusal.message);
            assert_eq!(refusal.kind, crate::packages::protocol::Kind::Catalogue);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let fetcher = Fetcher::new(None, Duration::from_secs(5)).await.unwrap();
        let refusal = fetcher.get(&address(&closed).unwrap(), 0).await.err().unwrap();
        assert!(refusal.message.contains("look at the appliance's network"), "{}", refusal.message);
    });
}

#[test]
fn an_authority_that_is_none_is_told() {
    run(async {
        for (given, told) in [
            ("/nowhere/ca.pem", "/nowhere/ca.pem: "),
            ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "that is none"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "is no PEM"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "has no certificate"),
        ] {
            let refusal = Fetcher::new(Some(given), Duration::from_secs(5)).await.err().unwrap();
            assert!(refusal.message.contains("`model.catalogue_ca`"), "{}", refusal.message);
            assert!(refusal.message.contains(told), "{given}: {}", refusal.message);
        }
    });
}
