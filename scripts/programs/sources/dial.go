// SPDX-License-Identifier: Apache-2.0

// Sockets by net.Dialer, to many servers that send back what comes: see ../languages.py.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

const port, patience = 7777, 20 * time.Second

func local(network, address string) net.Addr {
	ip := net.ParseIP(address)
	switch {
	case ip == nil:
		return nil
	case network == "tcp":
		return &net.TCPAddr{IP: ip}
	default:
		return &net.UDPAddr{IP: ip}
	}
}

func main() {
	network := os.Args[1]
	count, _ := strconv.Atoi(os.Args[2])
	servers, _ := strconv.Atoi(os.Args[3])
	dialer := net.Dialer{LocalAddr: local(network, os.Args[4])}
	result := map[string]int{"asked": count, "right": 0, "wrong": 0, "errors": 0}
	open := map[int]net.Conn{}
	for i := 0; i < count; i++ {
		server := i % servers
		to := fmt.Sprintf("127.0.%d.%d:%d", 16+server/250, 1+server%250, port)
		connection, err := dialer.Dial(network, to)
		if err != nil {
			result["errors"]++
			continue
		}
		open[i] = connection
		fmt.Fprintf(connection, "socket %d", i)
	}
	answer := make([]byte, 100)
	for i, connection := range open {
		connection.SetReadDeadline(time.Now().Add(patience))
		size, err := connection.Read(answer)
		if err == nil && string(answer[:size]) == fmt.Sprintf("socket %d", i) {
			result["right"]++
		} else if err == nil {
			result["wrong"]++
		}
	}
	text, _ := json.Marshal(result)
	fmt.Println(string(text))
	time.Sleep(time.Hour)
}
