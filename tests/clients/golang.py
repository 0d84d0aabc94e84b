"""Go's own HTTP client, which every program in Go has unless it brings another."""

from __future__ import annotations

from tests.clients.base import Visit, client, variables

GET = """
package main

import ("io"; "log"; "net/http"; "os")

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil { log.Fatal(err) }
	io.Copy(os.Stdout, answer.Body)
}
"""


@client(
    "Go, net/http",
    version=["go", "version"],
    explicit=variables("https_proxy=http://{proxy}"),
    root=variables("SSL_CERT_FILE={root}"),
    refusal="certificate signed by unknown authority",
    note="`SSL_CERT_FILE` counts on Linux; elsewhere it is the system's store alone",
)
def go(visit: Visit) -> str:
    program = visit.shared / "get"
    if not program.exists():
        source = visit.shared / "get.go"
        source.write_text(GET)
        visit.run("go", "build", "-o", str(program), str(source), GO111MODULE="off", CGO_ENABLED="0")
    return visit.run(str(program), visit.url("/"))
