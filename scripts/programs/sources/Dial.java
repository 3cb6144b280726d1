// SPDX-License-Identifier: Apache-2.0
// DatagramChannel and Socket, to many servers that send back what comes: see ../languages.py.

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.StandardProtocolFamily;
import java.nio.ByteBuffer;
import java.nio.channels.DatagramChannel;
import java.nio.channels.Selector;
import java.nio.channels.SelectionKey;
import java.util.HashMap;
import java.util.Map;

public class Dial {
    static final int PORT = 7777, PATIENCE_MILLISECONDS = 20_000;

    static int right, wrong, errors;

    static InetSocketAddress server(int number) {
        return new InetSocketAddress("127.0." + (16 + number / 250) + "." + (1 + number % 250), PORT);
    }

    static void judge(String expected, byte[] answer, int size) {
        if (new String(answer, 0, Math.max(size, 0)).equals(expected)) {
            right++;
        } else {
            wrong++;
        }
    }

    static void udp(int count, int servers, InetSocketAddress local) throws IOException {
        Selector selector = Selector.open();
        int waiting = 0;
        for (int i = 0; i < count; i++) {
            DatagramChannel channel = DatagramChannel.open(StandardProtocolFamily.INET);
            try {
                if (local != null) {
                    channel.bind(local);
                }
                channel.connect(server(i % servers));
            } catch (IOException error) {
                channel.close();
                errors++;
                continue;
            }
            channel.configureBlocking(false);
            channel.register(selector, SelectionKey.OP_READ, "socket " + i);
            channel.write(ByteBuffer.wrap(("socket " + i).getBytes()));
            waiting++;
        }
        while (waiting > 0 && selector.select(PATIENCE_MILLISECONDS) > 0) {
            for (SelectionKey key : selector.selectedKeys()) {
                ByteBuffer answer = ByteBuffer.allocate(100);
                int size = ((DatagramChannel) key.channel()).read(answer);
                judge((String) key.attachment(), answer.array(), size);
                key.cancel();
                waiting--;
            }
            selector.selectedKeys().clear();
        }
    }

    static void tcp(int count, int servers, InetSocketAddress local) throws IOException {
        Map<Integer, Socket> open = new HashMap<>();
        for (int i = 0; i < count; i++) {
            Socket socket = new Socket();
            try {
                socket.bind(local);
                socket.connect(server(i % servers));
            } catch (IOException error) {
                socket.close();
                errors++;
                continue;
            }
            socket.getOutputStream().write(("socket " + i).getBytes());
            open.put(i, socket);
        }
        for (Map.Entry<Integer, Socket> one : open.entrySet()) {
            byte[] answer = new byte[100];
            one.getValue().setSoTimeout(PATIENCE_MILLISECONDS);
            judge("socket " + one.getKey(), answer, one.getValue().getInputStream().read(answer));
        }
    }

    public static void main(String[] arguments) throws IOException, InterruptedException {
        int count = Integer.parseInt(arguments[1]), servers = Integer.parseInt(arguments[2]);
        InetSocketAddress local =
            arguments[3].equals("-") ? null : new InetSocketAddress(arguments[3], 0);
        if (arguments[0].equals("tcp")) {
            tcp(count, servers, local);
        } else {
            udp(count, servers, local);
        }
        System.out.printf("{\"asked\": %d, \"right\": %d, \"wrong\": %d, \"errors\": %d}%n",
                          count, right, wrong, errors);
        Thread.currentThread().join();
    }
}
