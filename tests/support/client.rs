//! A plain HTTP client for tests: one connection per request, bodies read piece by piece.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Sends a request; an error means that the connection broke.
pub async fn send(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// `GET path`.
pub async fn get(address: SocketAddr, path: &str) -> Response<Incoming> {
    let request = Request::get(path).header("host", "test").body(Full::default()).unwrap();
    send(address, request).await.unwrap()
}

/// `POST path` with a JSON body.
pub async fn post(address: SocketAddr, path: &str, body: &Value) -> Response<Incoming> {
    send(address, json_request(path, body)).await.unwrap()
}

/// A JSON `POST`.
pub fn json_request(path: &str, body: &Value) -> Request<Full<Bytes>> {
    let body = Full::from(body.to_string());
    Request::post(path).header("host", "test").header("content-type", "application/json").body(body).unwrap()
}

/// The whole body as JSON.
pub async fn json(response: Response<Incoming>) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body)))
}

/// The whole body as text.
pub async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.into()).unwrap()
}

/// What one server-sent event carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    Data(Value),
    Done,
    Comment,
}

/// A stream of server-sent events.
pub struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    pub fn new(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; `None` at the stream's orderly end.
    pub async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let sent = match event.strip_prefix("data: ") {
                    Some("[DONE]") => Sent::Done,
                    Some(data) => Sent::Data(serde_json::from_str(data).unwrap()),
                    None if event.starts_with(':') => Sent::Comment,
                    None => panic!("not an event: {event:?}"),
                };
                self.text = rest.to_owned();
                return Some(sent);
            }
            match self.body.frame().await {
                Some(frame) => {
                    let data = frame.unwrap().into_data().unwrap();
                    self.text.push_str(std::str::from_utf8(&data).unwrap());
                }
                None => {
                    assert_eq!(self.text, "", "the stream ended within an event");
                    return None;
                }
            }
        }
    }

    /// All remaining events.
    pub async fn rest(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(sent) = self.next().await {
            all.push(sent);
        }
        all
    }
}

/// The text of streamed chunks.
pub fn content(events: &[Sent]) -> String {
    let piece = |sent: &Sent| match sent {
        Sent::Data(chunk) => chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned),
        Sent::Done | Sent::Comment => None,
    };
    events.iter().filter_map(piece).collect()
}
