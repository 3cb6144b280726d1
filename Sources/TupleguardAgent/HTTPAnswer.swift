// SPDX-License-Identifier: Apache-2.0
// What the agent's HTTP servers share: how they listen, and an answer after which they close.

import NIOCore
import NIOHTTP1
import NIOPosix

extension ServerBootstrap {
    /// Where there are no more descriptors for connections, accepting them is tried again in a
    /// second, not at once and without end.
    convenience init(listeningOn group: any EventLoopGroup, backlog: Int32) {
        self.init(group: group)
        _ = serverChannelOption(.backlog, value: backlog)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptBackoffHandler())
                }
            }
    }
}

extension Channel {
    /// Answers a request, and closes when the answer is written.
    func answer(
        _ version: HTTPVersion, _ status: HTTPResponseStatus, _ text: String,
        type: String = "text/plain; charset=utf-8"
    ) {
        let headers: HTTPHeaders = [
            "content-type": type, "content-length": "\(text.utf8.count)", "connection": "close",
        ]
        let head = HTTPResponseHead(version: version, status: status, headers: headers)
        write(HTTPServerResponsePart.head(head), promise: nil)
        let body = allocator.buffer(string: text)
        write(HTTPServerResponsePart.body(.byteBuffer(body)), promise: nil)
        writeAndFlush(HTTPServerResponsePart.end(nil)).whenComplete { _ in
            self.close(promise: nil)
        }
    }
}
