//! The door: every request but a probe's shows who sends it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::web::{Admission, Protection, Rules};

pub(crate) async fn admit(State(protection): State<Arc<Protection>>, request: Request, next: Next) -> Response {
    let rules = protection.rules();
    // A probe has no password; whether the process lives and is ready is all that it is told.
    let open = match request.uri().path() {
        "/healthz" => true,
        "/readyz" => !request.headers().contains_key(AUTHORIZATION),
        _ => false,
    };
    let admission = if open { Admission::Granted } else { protection.admit(&rules, request.headers()).await };
    let mut response = match admission {
        Admission::Granted => next.run(request).await,
        Admission::Refused => refusal(&rules),
        Admission::Limited(wait) => {
            let seconds = wait.as_secs() + 1;
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds.to_string())], "too many requests\n").into_response()
        }
        Admission::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], "too many passwords to check\n").into_response()
        }
    };
    for (name, value) in &rules.headers {
        // What a page needs for itself comes first.
        response.headers_mut().entry(name).or_insert_with(|| value.clone());
    }
    response
}

fn refusal(rules: &Rules) -> Response {
    let mut response = (StatusCode::UNAUTHORIZED, "unauthorized\n").into_response();
    let schemes = [
        (rules.credentials.users(), r#"Basic realm="llm-relay-exporter", charset="UTF-8""#),
        (rules.credentials.tokens(), r#"Bearer realm="llm-relay-exporter""#),
    ];
    for (_, scheme) in schemes.into_iter().filter(|(offered, _)| *offered) {
        response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    }
    response
}
