//! The HTTP server: the page, a landing page, and two probes.
//!
//! A request only reads what the last refresh left; none of them causes a read of a relay's store.

mod connection;
mod guard;
mod landing;
mod paths;

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::HttpBody;
use axum::extract::{self, RawQuery, Request};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum_server::Handle;
use futures_util::future::try_join_all;
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use self::connection::Gate;
use self::landing::Frames;
use crate::model::Source;
use crate::page::accept::{self, Coding, Format};
use crate::page::{self, Shared};
use crate::reload::Reloader;
use crate::view::{SourceStatus, View};
use crate::web::Protection;
pub use paths::Paths;

/// How long a client may take to send the head of a request, and how long it may keep an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long running responses may take after the shutdown has begun.
const DRAIN: Duration = Duration::from_secs(5);
/// The head of a request; Prometheus sends less than 1 KiB.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

/// What the server shows.
#[derive(Clone)]
pub struct State {
    /// What `/metrics` answers, and the landing page counts.
    pub page: Shared,
    /// Where it shows it.
    pub paths: Paths,
    /// Who may read, and over which transport.
    pub protection: Arc<Protection>,
    /// Does what `/-/reload` asks for; without one, that is refused.
    pub reload: Option<Reloader>,
}

/// Serves on all listeners until `shutdown`, then lets running responses finish for a few seconds.
///
/// # Errors
/// When a listener fails; the others end then as well.
pub async fn run(listeners: Vec<TcpListener>, state: State, shutdown: CancellationToken) -> anyhow::Result<()> {
    let protection = state.protection.clone();
    let serving = listeners.into_iter().map(|listener| serve(listener, state.clone(), shutdown.clone()));
    tokio::select! {
        ended = try_join_all(serving) => ended.map(drop),
        () = protection.keep_current() => Ok(()),
    }
}

async fn serve(listener: TcpListener, state: State, shutdown: CancellationToken) -> anyhow::Result<()> {
    let address = listener.local_addr().context("cannot use the listening socket")?;
    let protection = state.protection.clone();
    let app = router(state, address);
    if exposed(address, &protection) {
        tracing::warn!(
            "everybody who reaches {address} can read the metrics; add basic_auth_users to --web.config.file, \
             or listen on 127.0.0.1"
        );
    }
    listener.set_nonblocking(true).context("cannot use the listening socket")?;
    let handle = Handle::<SocketAddr>::new();
    // HTTP/1 alone: guessing the version waits without a limit for a client that sends nothing.
    // To be said after the acceptor, which would take it back.
    let gate = Gate::new(protection.clone());
    let mut server = axum_server::from_tcp(listener)?.acceptor(gate).handle(handle.clone()).http1_only();
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS);

    let serving = server.serve(app.into_make_service());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended.context("the HTTP server ended"),
        () = shutdown.cancelled() => {
            handle.graceful_shutdown(Some(DRAIN));
            serving.await.context("the HTTP server did not end well")
        }
    }
}

/// Whether other machines can read without showing who they are.
fn exposed(address: SocketAddr, protection: &Protection) -> bool {
    !address.ip().to_canonical().is_loopback() && !protection.rules().authenticate()
}

fn router(state: State, address: SocketAddr) -> Router {
    let paths = state.paths.clone();
    let ready = async move |state, headers: HeaderMap| ready(state, &headers, address);
    let mut routes = Router::new()
        .route(&paths.telemetry, get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/-/reload", post(reload).put(reload));
    if &*paths.telemetry != "/" {
        let frames = [false, true].map(|exposed| Frames::new(&paths, exposed));
        let landing = async move |state, query, headers: HeaderMap| landing(state, query, &headers, address, &frames);
        routes = routes.route("/", get(landing));
    }
    let routes = routes
        .layer(middleware::from_fn_with_state(state.protection.clone(), guard::admit))
        .layer(middleware::from_fn(refuse_bodies))
        .with_state(state);
    if paths.prefix.is_empty() {
        return routes;
    }
    // As in Prometheus: whoever asks for the root is sent below the prefix.
    let root = paths.root();
    let to_root = get(async move || Redirect::to(&root));
    Router::new().nest(&format!("{}/", paths.prefix), routes).route("/", to_root.clone()).route(&paths.prefix, to_root)
}

/// The methods, codes and texts of Prometheus itself.
async fn reload(extract::State(state): extract::State<State>) -> (StatusCode, String) {
    let Some(reloader) = &state.reload else {
        return (StatusCode::FORBIDDEN, "Lifecycle API is not enabled: --web.enable-lifecycle\n".to_owned());
    };
    match reloader.reload().await {
        Ok(()) => (StatusCode::OK, String::new()),
        Err(problem) => (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {problem}\n")),
    }
}

/// The whole page, or for `?relay=NAME` what of it is about one relay.
async fn metrics(
    extract::State(state): extract::State<State>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let format = Format::negotiate(&values(&headers, ACCEPT));
    let coding = Coding::negotiate(&values(&headers, ACCEPT_ENCODING));
    let mut parameters = form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    let page = match parameters.find(|(name, _)| name == "relay") {
        None => state.page.read_as(format, coding),
        Some((_, relay)) => match state.page.current().of_relay(&relay) {
            Some(page) => page,
            None => return (StatusCode::NOT_FOUND, "no such relay\n").into_response(),
        },
    };
    let body = match page.ready(format, coding) {
        Some(body) => body.clone(),
        // To be written down, which must not keep others waiting.
        None => match tokio::task::spawn_blocking(move || page.bytes(format, coding).clone()).await {
            Ok(body) => body,
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if coding == Coding::Gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn values(headers: &HeaderMap, name: HeaderName) -> Vec<&[u8]> {
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes).collect()
}

/// The whole page, or for `?main` what of it changes.
fn landing(
    extract::State(state): extract::State<State>,
    RawQuery(query): RawQuery,
    headers: &HeaderMap,
    address: SocketAddr,
    frames: &[Frames; 2],
) -> Response {
    let lang = accept::language(&values(headers, ACCEPT_LANGUAGE));
    let coding = Coding::negotiate(&values(headers, ACCEPT_ENCODING));
    let page = state.page.current();
    let strangers = exposed(address, &state.protection);
    let numbers = page.screen(lang, strangers);
    let body = match query.as_deref() {
        Some("main") => numbers.clone(),
        _ => frames[usize::from(strangers)].around(numbers, lang).into(),
    };
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, &*landing::SECURITY_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (VARY, "Accept-Language, Accept-Encoding"),
    ];
    match coding {
        Coding::Identity => (headers, body).into_response(),
        Coding::Gzip => (headers, [(CONTENT_ENCODING, "gzip")], page::gzip(&body)).into_response(),
    }
}

/// 200 once each relay has been read or has failed to be, and one has been read: one that is down keeps no other waiting.
/// Who shows no password where one is needed is told no more than that, and no address where none is needed but should be.
fn ready(
    extract::State(state): extract::State<State>,
    headers: &HeaderMap,
    address: SocketAddr,
) -> (StatusCode, String) {
    let page = state.page.current();
    let read = |status: &SourceStatus| status.last_success.is_some();
    let tried = |status: &SourceStatus| read(status) || status.failures.iter().any(|(_, count)| *count > 0);
    let ready = page.views.iter().flat_map(awaited).all(tried) && page.views.iter().any(|view| awaited(view).all(read));
    let (code, mut text) = match ready {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
    };
    if headers.contains_key(AUTHORIZATION) || !state.protection.rules().authenticate() {
        let strangers = exposed(address, &state.protection);
        for (view, status) in page.views.iter().flat_map(|view| view.sources.iter().map(move |status| (view, status))) {
            let how = match &status.problem {
                Some(problem) => problem.shown(strangers),
                None if read(status) => "read".to_owned(),
                None => "not read yet".to_owned(),
            };
            // A String takes every write.
            let _ = writeln!(text, "{} {}: {how}", view.relay, status.source);
        }
    }
    (code, text)
}

/// Live state comes and goes.
fn awaited(view: &View) -> impl Iterator<Item = &SourceStatus> {
    view.sources.iter().filter(|status| status.source != Source::Live)
}

/// Nothing here takes a body; the connection of a client that sends one is closed instead of drained.
async fn refuse_bodies(request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if safe && !request.body().is_end_stream() {
        return (StatusCode::PAYLOAD_TOO_LARGE, [(CONNECTION, "close")], "a request body is not accepted\n")
            .into_response();
    }
    next.run(request).await
}
