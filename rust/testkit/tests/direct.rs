//! The scripts against plain clients, with no balancer between them.

use std::io::ErrorKind;
use std::time::Duration;

use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::exchange::{
    Order, Plan, hash_exchange, hash_exchange_after_greeting, hash_exchange_over,
};
use mailweir_testkit::proxy::Accept;
use mailweir_testkit::script::{Script, Then};
use mailweir_testkit::server::ScriptedServer;
use mailweir_testkit::stall::{StalledReader, reset};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn greeting_of(script: Script) -> Result<String, ErrorKind> {
    let greeting = async {
        let server = ScriptedServer::start(script).await?;
        let mut client = SmtpClient::connect(server.addr()).await?;
        client.greeting().await
    };
    greeting
        .await
        .map(|reply| reply.text)
        .map_err(|error| error.kind())
}

#[tokio::test]
async fn smtp_takes_messages() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut client = SmtpClient::connect(server.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
    assert_eq!(
        client.command("EHLO a").await.unwrap().text.lines().count(),
        4
    );
    for size in [1000, 300_000] {
        assert_eq!(client.send_message(size).await.unwrap().code, 250);
    }
    assert_eq!(client.quit().await.unwrap().code, 221);
    let log = server.wait_for_ends().await.unwrap();
    let messages = &log.connections[0].messages;
    let sizes: Vec<u64> = messages.iter().map(|message| message.bytes).collect();
    assert_eq!(sizes, [1003, 300_003]);
    assert!(
        messages
            .iter()
            .all(|message| message.digest.as_ref().unwrap().intact)
    );
    assert_eq!(log.connections[0].end, Some(Ok(())));
}

#[tokio::test]
async fn scripted_greetings() {
    let pieces = vec![b"220-a\r\n22".to_vec(), b"0 b\r\n".to_vec()];
    let pause = Duration::from_millis(5);
    let script = Script::Greeting {
        pieces,
        pause,
        then: Then::Serve,
    };
    assert_eq!(greeting_of(script).await.unwrap(), "220-a\r\n220 b\r\n");
    assert_eq!(
        greeting_of(Script::greeting("220 x\r\n")).await.unwrap(),
        "220 x\r\n"
    );
    assert_eq!(
        greeting_of(Script::RefuseWith421).await.unwrap()[..4],
        *"421 "
    );
    assert_eq!(
        greeting_of(Script::CloseOnAccept).await,
        Err(ErrorKind::UnexpectedEof)
    );

    let server = ScriptedServer::start(Script::greeting_then_close("554 no\r\n"))
        .await
        .unwrap();
    let mut client = SmtpClient::connect(server.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 554);
    let mut rest = Vec::new();
    client.into_stream().read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn reset_on_accept_resets() {
    let server = ScriptedServer::start(Script::ResetOnAccept).await.unwrap();
    let read = async {
        let mut stream = TcpStream::connect(server.addr()).await?;
        stream.read_u8().await
    };
    assert_eq!(read.await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_dropped_server_ends_its_connections_and_frees_its_port() {
    let server = ScriptedServer::start(Script::Silent).await.unwrap();
    let addr = server.addr();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    server
        .wait_for(|log| log.connections.len() == 1)
        .await
        .unwrap();
    drop(server);
    assert_eq!(
        stream.read_u8().await.unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(
        TcpStream::connect(addr).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn a_reset_of_the_client_is_logged() {
    let server = ScriptedServer::start(Script::Silent).await.unwrap();
    reset(TcpStream::connect(server.addr()).await.unwrap()).unwrap();
    server
        .wait_for(|log| log.connections.len() == 1)
        .await
        .unwrap();
    let log = server.wait_for_ends().await.unwrap();
    assert_eq!(
        log.connections[0].end,
        Some(Err(ErrorKind::ConnectionReset))
    );
}

#[tokio::test]
async fn echo_and_a_stalled_reader() {
    let server = ScriptedServer::start(Script::Echo).await.unwrap();
    let mut client = StalledReader::connect(server.addr()).await.unwrap();
    client.send(b"hello, world").await.unwrap();
    assert_eq!(client.read(5).await.unwrap(), b"hello");
    client.send(&[b'x'; 100_000]).await.unwrap();
    assert_eq!(client.finish().await.unwrap().len(), 100_007);
}

#[tokio::test]
async fn a_slow_reader_pushes_back() {
    let every = Duration::from_secs(60);
    let server = ScriptedServer::start(Script::SlowReader { bytes: 1, every })
        .await
        .unwrap();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let mut greeting = [0; 26];
    stream.read_exact(&mut greeting).await.unwrap();
    let too_much = vec![0; 64 << 20];
    let write = tokio::time::timeout(Duration::from_millis(300), stream.write_all(&too_much));
    assert!(write.await.is_err());
}

#[tokio::test]
async fn fifty_random_exchanges() {
    let server = ScriptedServer::start(Script::HashExchange { greeting: vec![] })
        .await
        .unwrap();
    let addr = server.addr();
    let clients: Vec<_> = (0..50)
        .map(|seed| {
            let plan = Plan::random(seed, 2 << 20);
            tokio::spawn(async move { (plan, hash_exchange(addr, plan).await.unwrap()) })
        })
        .collect();
    for client in clients {
        let (plan, ours) = client.await.unwrap();
        let theirs = server.outcome(plan.seed).await.unwrap();
        assert!(ours.mirrors(&theirs), "{plan:?}");
        assert_eq!(
            (ours.sent.bytes, ours.received.bytes),
            (plan.up.into(), plan.down.into())
        );
    }
    assert_eq!(server.accepted(), 50);
}

#[tokio::test]
async fn every_order_after_a_greeting_and_a_proxy_header() {
    let script = Script::HashExchange {
        greeting: b"220 hash\r\n".to_vec(),
    };
    let server = ScriptedServer::start(script.clone()).await.unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let script = Script::HashExchange { greeting: vec![] };
    let behind = ScriptedServer::start_at(any, script, Some(Accept::Any))
        .await
        .unwrap();
    for (seed, order) in Order::ALL.into_iter().enumerate() {
        let plan = Plan {
            seed: seed as u64,
            up: 100_000,
            down: 200_001,
            order,
        };
        let ours = hash_exchange_after_greeting(server.addr(), plan)
            .await
            .unwrap();
        assert!(
            ours.mirrors(&server.outcome(plan.seed).await.unwrap()),
            "{plan:?}"
        );

        let mut stream = TcpStream::connect(behind.addr()).await.unwrap();
        stream
            .write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n")
            .await
            .unwrap();
        let ours = hash_exchange_over(stream, plan).await.unwrap();
        assert!(
            ours.mirrors(&behind.outcome(plan.seed).await.unwrap()),
            "{plan:?}"
        );
    }
    let log = behind.wait_for_ends().await.unwrap();
    let (source, _) = log.connections[0].proxy.unwrap().addresses.unwrap();
    assert_eq!(source.to_string(), "192.0.2.1:1");
}

#[tokio::test]
async fn a_damaged_header_fails_the_exchange() {
    let server = ScriptedServer::start(Script::HashExchange { greeting: vec![] })
        .await
        .unwrap();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(&[7; 24]).await.unwrap();
    server
        .wait_for(|log| log.connections.len() == 1)
        .await
        .unwrap();
    let log = server.wait_for_ends().await.unwrap();
    assert_eq!(log.connections[0].end, Some(Err(ErrorKind::InvalidData)));
}
