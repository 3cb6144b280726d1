// SPDX-License-Identifier: Apache-2.0
// dgram and net, to many servers that send back what comes: see ../languages.py.

const dgram = require('dgram');
const net = require('net');

const PORT = 7777, PATIENCE_MILLISECONDS = 20_000;
const [transport, count, servers, local] =
  [process.argv[2], +process.argv[3], +process.argv[4], process.argv[5]];
const result = {asked: count, right: 0, wrong: 0, errors: 0};

function server(number) {
  return `127.0.${16 + Math.floor(number / 250)}.${1 + number % 250}`;
}

// The sockets stay open; a second word would be one too many.
function end() {
  console.log(JSON.stringify(result));
  end = () => {};
}

function finished(what) {
  result[what]++;
  if (result.right + result.wrong + result.errors === count) end();
}

function udp(number, then) {
  const socket = dgram.createSocket('udp4');
  socket.on('error', () => { finished('errors'); then(); });
  socket.on('message', text => finished(`${text}` === `socket ${number}` ? 'right' : 'wrong'));
  const connect = () => socket.connect(PORT, server(number % servers), error => {
    if (error) finished('errors'); else socket.send(`socket ${number}`);
    then();
  });
  if (local === '-') connect(); else socket.bind({address: local, port: 0}, connect);
}

function tcp(number, then) {
  const options = {port: PORT, host: server(number % servers)};
  if (local !== '-') options.localAddress = local;
  const socket = net.connect(options, () => socket.write(`socket ${number}`));
  socket.on('error', () => finished('errors'));
  socket.on('data', text => finished(`${text}` === `socket ${number}` ? 'right' : 'wrong'));
  then();
}

// One after the other, so that a thousand sockets do not wait for one processor at once.
function open(number) {
  if (number < count) (transport === 'tcp' ? tcp : udp)(number, () => setImmediate(open, number + 1));
}

setTimeout(end, PATIENCE_MILLISECONDS);
open(0);
