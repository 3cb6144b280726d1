// SPDX-License-Identifier: Apache-2.0
//! UdpSocket, to many servers that send back what comes: see ../languages.py.

use std::net::UdpSocket;
use std::time::Duration;

const PORT: u16 = 7777;
const PATIENCE: Duration = Duration::from_secs(20);

fn open(number: usize, server: usize, local: &str) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((local, 0))?;
    socket.connect((format!("127.0.{}.{}", 16 + server / 250, 1 + server % 250), PORT))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(format!("socket {}", number).as_bytes())?;
    Ok(socket)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let count: usize = arguments[2].parse().unwrap();
    let servers: usize = arguments[3].parse().unwrap();
    // The standard library has no socket that is not bound.
    let local = if arguments[4] == "-" { "0.0.0.0" } else { &arguments[4] };
    let sockets: Vec<_> = (0..count)
        .filter_map(|i| open(i, i % servers, local).ok().map(|socket| (i, socket)))
        .collect();
    let (mut right, mut wrong) = (0, 0);
    for (number, socket) in &sockets {
        let mut answer = [0; 100];
        if let Ok(size) = socket.recv(&mut answer) {
            if answer[..size] == *format!("socket {}", number).as_bytes() {
                right += 1;
            } else {
                wrong += 1;
            }
        }
    }
    println!("{{\"asked\": {}, \"right\": {}, \"wrong\": {}, \"errors\": {}}}",
             count, right, wrong, count - sockets.len());
    loop {
        std::thread::park();
    }
}
