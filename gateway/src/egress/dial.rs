//! From a name to a connection: resolve, check each address, dial exactly what was checked.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use super::address::{self, AddressError};
use super::name::Host;

/// Time the resolver has.
const RESOLVE: Duration = Duration::from_secs(10);
/// Time one address has to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    #[error("the resolver did not answer within {} s", RESOLVE.as_secs())]
    ResolveTimeout,
    #[error("the name has no address")]
    NoAddress,
    #[error(transparent)]
    Address(AddressError),
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("no answer within {} s", CONNECT.as_secs())]
    ConnectTimeout,
}

type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// How names become addresses.
#[derive(Clone)]
pub struct Resolver {
    lookup: Arc<Lookup>,
    /// Where checked addresses are really dialled; `None`: there.
    routes: Option<Arc<HashMap<SocketAddr, SocketAddr>>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Default for Resolver {
    /// The system's.
    fn default() -> Self {
        Self::new(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }
}

impl Resolver {
    /// A resolver of one's own.
    pub fn new(
        lookup: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            lookup: Arc::new(lookup),
            routes: None,
        }
    }

    /// The same with local servers that stand for the internet: a checked address is dialled where the table says, and
    /// no address that is not in it.
    #[must_use]
    pub fn with_routes(mut self, routes: HashMap<SocketAddr, SocketAddr>) -> Self {
        self.routes = Some(Arc::new(routes));
        self
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let to = match &self.routes {
            None => address,
            Some(routes) => *routes.get(&address).ok_or(io::ErrorKind::HostUnreachable)?,
        };
        TcpStream::connect(to).await
    }

    async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, DialError> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name.as_str().to_owned(),
        };
        match tokio::time::timeout(RESOLVE, (self.lookup)(name)).await {
            Err(_) => Err(DialError::ResolveTimeout),
            Ok(Err(error)) => Err(DialError::Resolve(error)),
            Ok(Ok(found)) if found.is_empty() => Err(DialError::NoAddress),
            Ok(Ok(found)) => Ok(found),
        }
    }
}

/// Connects to `host:port`. `may_be_local`: the operator said that this one is a local service.
pub async fn dial(
    resolver: &Resolver,
    host: &Host,
    port: u16,
    may_be_local: bool,
) -> Result<TcpStream, DialError> {
    let mut last = DialError::NoAddress;
    let mut found = resolver.addresses(host).await?;
    found.truncate(MAX_ADDRESSES);
    for ip in found {
        // Bad ones are left out rather than refusing the name: networks that translate IPv4 add some to every answer.
        if let Err(error) = check(ip, may_be_local) {
            last = DialError::Address(error);
            continue;
        }
        match tokio::time::timeout(CONNECT, resolver.connect(SocketAddr::new(ip, port))).await {
            Ok(Ok(stream)) => {
                // Small writes of a guest are not for us to collect.
                let _best_effort = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = DialError::Connect(error),
            Err(_) => last = DialError::ConnectTimeout,
        }
    }
    Err(last)
}

fn check(ip: IpAddr, may_be_local: bool) -> Result<(), AddressError> {
    match address::check(ip) {
        Err(error) if !(may_be_local && error.may_be_excepted()) => return Err(error),
        _ => {}
    }
    if !may_be_local && address::is_own(ip) {
        return Err(AddressError::Own);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::TcpListener;

    fn answers(addresses: &[&str]) -> Resolver {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Resolver::new(move |_| {
            let addresses = addresses.clone();
            Box::pin(async move { Ok(addresses) })
        })
    }

    fn host(text: &str) -> Host {
        Host::parse(text.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_name_for_a_local_address_is_refused_unless_the_operator_said_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let name = host("rebound.example");
        for (address, may_be_local) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", true),
            ("64:ff9b::7f00:1", true),
            ("169.254.169.254", true),
            ("10.0.0.1", false),
        ] {
            let result = dial(&answers(&[address]), &name, port, may_be_local).await;
            assert!(
                matches!(result, Err(DialError::Address(_))),
                "{address}: {result:?}"
            );
        }
        let result = dial(&answers(&[]), &name, port, true).await;
        assert!(matches!(result, Err(DialError::NoAddress)));
        // A literal is no way around.
        let result = dial(&Resolver::default(), &host("127.0.0.1"), port, false).await;
        assert!(matches!(result, Err(DialError::Address(AddressError::Loopback))));
        let reached = dial(&answers(&["::ffff:127.0.0.1", "127.0.0.1"]), &name, port, true).await;
        assert_eq!(reached.unwrap().peer_addr().unwrap().port(), port);
    }

    #[tokio::test]
    async fn a_second_answer_plays_no_part() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let rebinding = Resolver::new(move |_| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            let address = if first { "127.0.0.1" } else { "169.254.169.254" };
            Box::pin(async move { Ok(vec![address.parse().unwrap()]) })
        });
        let stream = dial(&rebinding, &host("rebinding.example"), port, true)
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip().to_string(), "127.0.0.1");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
