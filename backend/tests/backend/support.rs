//! A backend on a temporary directory, and a browser for it.

use crate::fake_runner::{Connection, FakeRunner};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use lodge_backend::{Config, Error, Settings, control};
use serde_json::{Value, json};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

pub(crate) const SESSION: &str = "0191a0b0-0000-7000-8000-000000000001";

/// No wait of a test is longer; reaching it is a failure.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("nothing happened for 20 s")
}

pub(crate) struct Backend {
    pub(crate) data: PathBuf,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
    _directory: Option<TempDir>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The code of an error; empty where the body is none.
    pub(crate) fn error_code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().to_owned();
        Self {
            _directory: Some(directory),
            ..Self::start_on(&data).await
        }
    }

    pub(crate) async fn start_on(data: &Path) -> Self {
        let settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Settings::default()
        };
        let config = Config::embedded(data, settings);
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(lodge_backend::serve(
            config,
            move |address| ready.send(address).unwrap(),
            async move { drop(stopped.await) },
        ));
        let address = within(is_ready).await.expect("the backend starts");
        Self {
            data: data.to_owned(),
            address,
            stop: Some(stop),
            task,
            _directory: None,
        }
    }

    /// A backend and the runner it is connected to.
    pub(crate) async fn with_runner() -> (Self, FakeRunner, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let runner = FakeRunner::bind(directory.path());
        let data = directory.path().to_owned();
        let backend = Self {
            _directory: Some(directory),
            ..Self::start_on(&data).await
        };
        let connection = within(runner.accept()).await;
        (backend, runner, connection)
    }

    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stop(mut self) {
        self.begin_stop();
        within(self.task).await.unwrap().unwrap();
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A request with exactly these headers.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: &[u8],
    ) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let response = within(sender.send_request(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = within(body.collect()).await.unwrap().to_bytes();
        connection.abort();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// A request as a page of ours makes it.
    pub(crate) async fn call(&self, method: Method, path: &str, cookie: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, cookie, body, &[]).await
    }

    pub(crate) async fn call_with(
        &self,
        method: Method,
        path: &str,
        cookie: &str,
        body: Option<Value>,
        more: &[(HeaderName, &str)],
    ) -> Answer {
        let (host, origin) = (self.host(), self.origin());
        let mut headers = vec![(HOST, host.as_str()), (ORIGIN, origin.as_str()), (COOKIE, cookie)];
        headers.extend(body.is_some().then_some((CONTENT_TYPE, "application/json")));
        headers.extend_from_slice(more);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.raw(method, path, &headers, body.as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.call(Method::GET, path, cookie, None).await
    }

    pub(crate) async fn post(&self, path: &str, cookie: &str, body: Value) -> Answer {
        self.call(Method::POST, path, cookie, Some(body)).await
    }

    /// The token of a new login link.
    pub(crate) async fn link_token(&self) -> String {
        let link = within(control::login_link(
            &self.data.join("run/backend-control.sock"),
            None,
        ))
        .await
        .unwrap();
        let prefix = format!("http://{}/login#token=", self.address);
        link.url
            .strip_prefix(&prefix)
            .unwrap_or_else(|| panic!("{}", link.url))
            .to_owned()
    }

    /// The cookie pair of a new login.
    pub(crate) async fn login(&self) -> String {
        let token = self.link_token().await;
        let answer = self.post("/api/v1/login", "", json!({ "token": token })).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    pub(crate) async fn page_token(&self, cookie: &str) -> String {
        let answer = self.get("/api/v1/page-token", cookie).await;
        answer.json()["token"].as_str().expect("a page token").to_owned()
    }

    /// Opens a WebSocket with exactly these values.
    pub(crate) async fn websocket(
        &self,
        cookie: &str,
        origin: &str,
        protocols: &str,
    ) -> Result<Browser, WsError> {
        let mut request = format!("ws://{}/api/v1/ws", self.address).into_client_request()?;
        let headers = request.headers_mut();
        headers.insert(COOKIE, cookie.parse().unwrap());
        headers.insert(ORIGIN, origin.parse().unwrap());
        headers.insert("sec-websocket-protocol", protocols.parse().unwrap());
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (socket, response) = within(tokio_tungstenite::client_async(request, stream)).await?;
        assert_eq!(response.headers()["sec-websocket-protocol"], "lodge.v1");
        Ok(Browser { socket })
    }

    /// A logged-in browser that was welcomed.
    pub(crate) async fn browse(&self, cookie: &str) -> Browser {
        let token = self.page_token(cookie).await;
        let protocols = format!("lodge.v1, token.{token}");
        let mut browser = self.websocket(cookie, &self.origin(), &protocols).await.unwrap();
        let welcome = browser.next().await;
        assert_eq!(welcome["control"]["type"], "welcome", "{welcome}");
        assert_eq!(welcome["control"]["account"], "local");
        browser
    }
}

pub(crate) struct Browser {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Browser {
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match within(self.socket.next())
                .await
                .expect("the socket is open")
                .unwrap()
            {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn next_control(&mut self, kind: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["control"]["type"], kind, "{frame}");
        frame
    }

    pub(crate) async fn say(&mut self, frame: &Value) {
        self.say_text(&frame.to_string()).await;
    }

    pub(crate) async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn hello(&mut self, cursors: Value) {
        self.say(&json!({"hello": {"version": 1, "cursors": cursors}}))
            .await;
    }

    /// The code with which the server closes.
    pub(crate) async fn closed_with(&mut self) -> u16 {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("no close frame but {other:?}"),
            }
        }
    }
}
