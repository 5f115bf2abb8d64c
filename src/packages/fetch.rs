//! One thing fetched over HTTP, with or without TLS. Whoever is at the other end cannot hold up
//! anybody: each step has its time, and no more is taken than is passed on.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use fluent_uri::Uri;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT_ENCODING, CONTENT_RANGE, HOST, HeaderMap, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, rustls};

use super::catalogue::{Address, refused, resolve};
use super::protocol::Result;

/// Times one is sent elsewhere.
const REDIRECTS: usize = 5;
/// What hyper keeps of what has come and is not taken yet.
const BUFFER: usize = 64 << 10;
const AGENT: &str = concat!("llm8850/", env!("CARGO_PKG_VERSION"));
/// How a certificate begins where it is not in a file.
const PEM: &str = "-----BEGIN";

/// Fetches things.
pub struct Fetcher {
    tls: TlsConnector,
    /// For an answer's beginning, and for each piece of it.
    patience: Duration,
}

impl Fetcher {
    /// Believes the authorities browsers believe, and `authority`: its certificates as PEM, or a
    /// file of them.
    ///
    /// # Errors
    /// There is no certificate in it.
    pub async fn new(authority: Option<&str>, patience: Duration) -> Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(authority) = authority {
            let given = authority.to_owned();
            let added = spawn_blocking(move || add(&mut roots, &given).map(|()| roots)).await;
            let wrong = |what: String| refused(format!("`model.catalogue_ca` {what}."));
            roots = added.map_err(|e| wrong(e.to_string()))?.map_err(wrong)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|e| refused(format!("TLS: {e}.")))?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), patience })
    }

    /// Fetches what is at `address`, from byte `from` on.
    ///
    /// # Errors
    /// It cannot be had, and why.
    pub async fn get(&self, address: &Address, from: u64) -> Result<Fetched> {
        let mut address = address.clone();
        for _ in 0..=REDIRECTS {
            let asked = timeout(self.patience, self.ask(&address, from)).await;
            let (response, talking) = asked.map_err(|_| {
                refused(format!("{address} did not answer within {} s.", self.patience.as_secs()))
            })??;
            let (status, headers) = (response.status(), response.headers());
            if !status.is_redirection() {
                return Fetched::new(address, response, talking, from, self.patience);
            }
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok());
            let to =
                to.ok_or_else(|| refused(format!("{address} answers {status} and does not say where.")))?;
            address = resolve(to, &address).map_err(|what| {
                refused(format!("{address} sends elsewhere, which is not followed: {what}."))
            })?;
        }
        Err(refused(format!("{address}: sent elsewhere more than {REDIRECTS} times.")))
    }

    async fn ask(&self, address: &Address, from: u64) -> Result<(Response<Incoming>, JoinSet<()>)> {
        let failed = |why: String| refused(format!("{address} cannot be had: {why}."));
        let to = Place::of(address).ok_or_else(|| failed("it is no address of HTTP".into()))?;
        let mut request = Request::get(&to.path)
            .header(HOST, &to.authority)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let request = request.body(Empty::new()).map_err(|e| failed(e.to_string()))?;
        let stream = TcpStream::connect((to.host.as_str(), to.port)).await;
        let stream = stream.map_err(|e| failed(format!("{e}; look at the appliance's network")))?;
        let talked = if to.tls {
            let name = ServerName::try_from(to.host).map_err(|e| failed(e.to_string()))?;
            let stream = self.tls.connect(name, stream).await.map_err(|e| failed(distrust(&e)))?;
            talk(stream, request).await
        } else {
            talk(stream, request).await
        };
        talked.map_err(|e| failed(e.to_string()))
    }
}

async fn talk<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<(Response<Incoming>, JoinSet<()>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await?;
    // Ends with what it is kept beside.
    let mut talking = JoinSet::new();
    talking.spawn(async {
        // What breaks it, its body tells.
        let _ = connection.await;
    });
    Ok((sender.send_request(request).await?, talking))
}

/// Where an address leads.
struct Place {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Place {
    fn of(address: &Address) -> Option<Self> {
        let authority = address.authority()?;
        let tls = match address.scheme().as_str().to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let port = authority.port_to_u16().ok()?.unwrap_or(if tls { 443 } else { 80 });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = match address.path().as_str() {
            "" => "/",
            path => path,
        };
        let query = address.query().map_or_else(String::new, |query| format!("?{query}"));
        let (authority, path) = (authority.as_str().to_owned(), format!("{path}{query}"));
        Some(Self { tls, host, port, authority, path })
    }
}

/// What is being fetched.
pub struct Fetched {
    /// Where it was in the end.
    pub address: Address,
    /// How much is to come of it, where that is told.
    pub length: Option<u64>,
    body: Incoming,
    /// What of it is there already, and is sent all the same.
    skip: u64,
    patience: Duration,
    _talking: JoinSet<()>,
}

impl Fetched {
    fn new(
        address: Address,
        response: Response<Incoming>,
        talking: JoinSet<()>,
        from: u64,
        patience: Duration,
    ) -> Result<Self> {
        let (head, body) = response.into_parts();
        let skip = match head.status {
            StatusCode::PARTIAL_CONTENT if starts_at(&head.headers) == Some(from) => 0,
            // A server that knows no ranges.
            StatusCode::OK => from,
            status => {
                return Err(refused(format!("{address} answers {status} to a request from byte {from} on.")));
            }
        };
        let length = body.size_hint().exact().map(|length| length.saturating_sub(skip));
        Ok(Self { address, length, body, skip, patience, _talking: talking })
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// It broke off, or does not come.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = timeout(self.patience, self.body.frame()).await;
            let frame = frame.map_err(|_| {
                refused(format!(
                    "{} stopped coming: nothing for {} s.",
                    self.address,
                    self.patience.as_secs()
                ))
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|e| refused(format!("{} broke off: {e}.", self.address)))?;
            // What is no data is a trailer.
            let Ok(mut piece) = frame.into_data() else { continue };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
            piece.advance(skipped);
            self.skip -= skipped as u64;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// It is longer than `most`, or as of [`Fetched::piece`].
    pub async fn whole(mut self, most: usize) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece().await? {
            if whole.len() + piece.len() > most {
                return Err(refused(format!("{} is longer than {most} bytes.", self.address)));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

/// The first byte of a part.
fn starts_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim().split('-').next()?.parse().ok()
}

/// Adds the certificates that are given.
fn add(roots: &mut RootCertStore, given: &str) -> std::result::Result<(), String> {
    let text = match given.trim_start().starts_with(PEM) {
        true => given.as_bytes().to_vec(),
        false => std::fs::read(Path::new(given)).map_err(|e| format!("{given}: {e}"))?,
    };
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|e| format!("is no PEM: {e}"))?;
        roots.add(certificate).map_err(|e| format!("has a certificate that is none: {e}"))?;
        found = true;
    }
    if found { Ok(()) } else { Err("has no certificate".into()) }
}

/// Why TLS did not come about, and what to do.
fn distrust(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let remedy = match cause {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::UnknownIssuer => {
                "; where that is an authority of your own, give its certificate as `model.catalogue_ca`"
            }
            CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. } => "; is the appliance's clock right?",
            _ => "",
        },
        _ => "",
    };
    format!("{error}{remedy}")
}

/// An address as the configuration tells it.
///
/// # Errors
/// It is none.
pub fn address(text: &str) -> Result<Address> {
    let parsed = Uri::parse(text.to_owned());
    parsed.map_err(|_| refused(format!("`model.catalogue` is no address: {text:?}.")))
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
