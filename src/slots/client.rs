//! One HTTP exchange with the service.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer that is longer is none.
const LONGEST: usize = 1 << 20;

/// Asks `path` at `address`, with a JSON body or without: the JSON of an answer with 200.
///
/// # Errors
/// What went wrong, as half a sentence.
pub async fn ask(
    address: SocketAddr,
    path: &str,
    body: Option<&Value>,
    key: Option<&str>,
    within: Duration,
) -> Result<(HeaderMap, Value), String> {
    let mut request = Request::builder().uri(path).header(HOST, address.to_string());
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = match body {
        Some(body) => request
            .method(Method::POST)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(body.to_string())),
        None => request.body(Full::default()),
    };
    let request = request.map_err(|e| format!("{path}: {e}"))?;
    match timeout(within, exchange(address, request)).await {
        Ok(answer) => answer.map_err(|e| format!("http://{address}{path}: {e}")),
        Err(_) => Err(format!("http://{address}{path} did not answer within {} s", within.as_secs())),
    }
}

async fn exchange(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<(HeaderMap, Value), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let talking = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LONGEST).collect().await?.to_bytes();
    talking.abort();
    if head.status != hyper::StatusCode::OK {
        let start: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        return Err(format!("{}: {start}", head.status).into());
    }
    Ok((head.headers, serde_json::from_slice(&body)?))
}
