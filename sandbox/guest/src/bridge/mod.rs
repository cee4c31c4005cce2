//! `lodge-init opencode-bridge -- PROGRAM…`: a harness that is an HTTP server, as lines.
//!
//! It starts `PROGRAM serve` on the loopback of the guest and is its only client. A line of standard input is one
//! request, `{"id","method","path","body"}`; standard output has a line for each response, and one for each event of
//! the server's stream. So the shim journals this harness like any other. What the server itself prints goes to
//! standard error.
//!
//! Requests are written in the order of their lines; responses come as they are ready. The bridge ends when the
//! server ends, with its status; when standard input ends, it ends the server.

mod http;
mod lines;
mod server;
mod sse;

use std::ffi::OsString;
use std::io::{self, BufReader, Read};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use lines::{Line, Request};
use server::{Address, Server, ServerError};

/// Longest request line, in bytes. The shim bounds what it sends to the same.
const MAX_REQUEST: usize = 16 << 20;
/// Longest body of a response and longest event, in bytes: with what is around it, less than the shim takes as a line.
const MAX_BODY: usize = 12 << 20;
/// Requests that may wait for their responses.
const MAX_OPEN: usize = 32;
/// The server says something on its stream every 10 s.
const SILENCE: Duration = Duration::from_secs(35);
/// Between two attempts to follow the stream.
const PAUSE: Duration = Duration::from_millis(200);

/// Why the bridge ended without an end of its server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BridgeError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("starting a thread: {source}")]
    Thread { source: io::Error },
}

/// Runs until the server has ended; gives its status.
pub(crate) fn run(command: &[OsString]) -> Result<ExitCode, BridgeError> {
    let mut server = Server::start(command)?;
    let address = server.address()?;
    let (connected, first) = sync_channel(1);
    let stream = address.clone();
    spawn(move || follow(&stream, &connected))?;
    let pid = server.pid();
    spawn(move || {
        // Not before the stream stands: nothing that a request leads to is missed.
        if first.recv().is_ok() {
            serve(&address);
        }
        server::end(pid);
    })?;
    Ok(server.wait()?)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), BridgeError> {
    thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(work)
        .map(drop)
        .map_err(|source| BridgeError::Thread { source })
}

/// Counts requests without a response.
#[derive(Debug, Default)]
struct Open {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Open {
    /// Waits until there is room for one more.
    fn enter(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count >= MAX_OPEN {
            count = self.fewer.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count += 1;
    }

    fn leave(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.fewer.notify_one();
    }
}

/// Turns lines into requests until they end.
fn serve(address: &Address) {
    let open = Arc::new(Open::default());
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        match lines::read(&mut input, MAX_REQUEST, &mut line) {
            Ok(Line::Whole) if line.iter().all(u8::is_ascii_whitespace) => {}
            Ok(Line::Whole) => match Request::parse(&line) {
                Ok(request) => ask(address, &open, request),
                Err(reason) => lines::print(&lines::refused(&reason)),
            },
            Ok(Line::Oversize) => lines::print(&lines::refused("the line is too long")),
            Ok(Line::End) | Err(_) => return,
        }
    }
}

/// Sends a request; its response is printed when it is there.
fn ask(address: &Address, open: &Arc<Open>, request: Request) {
    open.enter();
    let sent = address
        .connect()
        .and_then(|mut stream| send(address, &request, &mut stream).map(|()| stream));
    let leaving = Arc::clone(open);
    let id = request.id.clone();
    let work = move || {
        let line = match sent.and_then(|stream| receive(&stream)) {
            Ok((status, body)) => lines::response(&request, status, &body),
            Err(error) => lines::failed(&request.id, &error.to_string()),
        };
        lines::print(&line);
        leaving.leave();
    };
    if let Err(error) = spawn(work) {
        lines::print(&lines::failed(&id, &error.to_string()));
        open.leave();
    }
}

fn send(address: &Address, request: &Request, stream: &mut TcpStream) -> io::Result<()> {
    let body = request.body.as_ref().map(|body| body.get().as_bytes());
    http::request(stream, address, &request.method, &request.path, body)
}

fn receive(stream: &TcpStream) -> io::Result<(u16, Vec<u8>)> {
    let response = http::Response::read(BufReader::new(stream))?;
    let mut body = Vec::new();
    let status = response.status;
    response.body.take(MAX_BODY as u64 + 1).read_to_end(&mut body)?;
    if body.len() > MAX_BODY {
        let message = format!("the response has more than {MAX_BODY} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok((status, body))
}

/// Prints the server's events, for ever. Its stream has no memory: after a loss the other end asks for the state.
fn follow(address: &Address, connected: &SyncSender<()>) {
    loop {
        if let Ok(mut events) = subscribe(address) {
            lines::print(lines::CONNECTED);
            let _ = connected.try_send(());
            while let Ok(Some(event)) = events.next() {
                lines::print(&lines::event(&event));
            }
            lines::print(lines::LOST);
        }
        thread::sleep(PAUSE);
    }
}

fn subscribe(address: &Address) -> io::Result<sse::Events<impl io::BufRead>> {
    let mut stream = address.connect()?;
    stream.set_read_timeout(Some(SILENCE))?;
    http::request(&mut stream, address, "GET", "/event", None)?;
    let response = http::Response::read(BufReader::new(stream))?;
    if response.status != 200 {
        return Err(io::Error::other(format!(
            "the stream answered {}",
            response.status
        )));
    }
    Ok(sse::Events::new(BufReader::new(response.body), MAX_BODY))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test that panics has failed.

    use super::*;
    use std::io::{BufRead, Write};
    use std::net::TcpListener;

    /// A server that gives these answers, one a connection; what it was asked comes out of its end.
    fn server(answers: Vec<Vec<u8>>) -> (Address, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address {
            port: listener.local_addr().unwrap().port(),
            authorization: "Basic x".into(),
        };
        let work = move || {
            let answer = |answer: Vec<u8>| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = String::new();
                BufReader::new(&stream).read_line(&mut asked).unwrap();
                // The other end may have had enough of it.
                let _ = stream.write_all(&answer);
                asked
            };
            answers.into_iter().map(answer).collect()
        };
        (address, thread::spawn(work))
    }

    fn exchange(address: &Address, line: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let request = Request::parse(line).unwrap();
        let mut stream = address.connect()?;
        send(address, &request, &mut stream)?;
        receive(&stream)
    }

    #[test]
    fn a_request_gets_its_response_and_a_body_is_bounded() {
        let mut long = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1).into_bytes();
        long.resize(long.len() + MAX_BODY + 1, b'x');
        let answers = vec![
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
            long,
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_vec(),
        ];
        let (address, asked) = server(answers);
        let line = br#"{"id":"1","method":"GET","path":"/session/x"}"#;
        assert_eq!(exchange(&address, line).unwrap(), (404, b"{}".to_vec()));
        let long = exchange(&address, line).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::FileTooLarge);
        let short = exchange(&address, line).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(asked.join().unwrap(), ["GET /session/x HTTP/1.1\r\n"; 3]);
    }

    #[test]
    fn events_come_until_the_stream_breaks_off() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let stream = format!("{head}a\r\ndata: {{\"a\"\r\n8\r\n: 1}}\n\nda\r\n");
        let refused = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec();
        let (address, asked) = server(vec![stream.into_bytes(), refused]);
        let mut events = subscribe(&address).unwrap();
        let first = events.next().unwrap();
        assert_eq!(first, Some(sse::Event::Data(b"{\"a\": 1}".to_vec())));
        assert!(events.next().is_err());
        assert!(subscribe(&address).is_err());
        assert_eq!(asked.join().unwrap(), ["GET /event HTTP/1.1\r\n"; 2]);
    }
}
