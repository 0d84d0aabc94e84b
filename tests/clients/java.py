"""Java's clients. They have a trust store of their own, and are told of another on the command line."""

from __future__ import annotations

from tests.clients.base import TEXT, Setting, Visit, client, options

PROXY = options("-Dhttps.proxyHost={host}", "-Dhttps.proxyPort={port}")
TRUST = Setting(
    commands=[
        "keytool -importcert -noprompt -alias sallyport -file {root} -keystore sallyport.p12 -storepass changeit",
    ],
    options=["-Djavax.net.ssl.trustStore=sallyport.p12", "-Djavax.net.ssl.trustStorePassword=changeit"],
)
REFUSAL = "unable to find valid certification path to requested target"
GET = """
import java.net.*; import java.net.http.*; import java.util.concurrent.*;

class Get {
    public static void main(String[] asked) throws Exception {
        var where = URI.create(asked[1]);
        System.out.print(switch (asked[0]) {
            case "connection" -> new String(where.toURL().openConnection().getInputStream().readAllBytes());
            case "client" -> HttpClient.newHttpClient()
                .send(HttpRequest.newBuilder(where).build(), HttpResponse.BodyHandlers.ofString()).body();
            default -> echo(where, asked[2]);
        });
    }

    static String echo(URI where, String message) throws Exception {
        var came = new CompletableFuture<String>();
        var socket = HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(where, new WebSocket.Listener() {
            public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
                came.complete(data.toString());
                return null;
            }
        }).get(60, TimeUnit.SECONDS);
        socket.sendText(message, true);
        var text = came.get(60, TimeUnit.SECONDS);
        socket.sendClose(WebSocket.NORMAL_CLOSURE, "").get(60, TimeUnit.SECONDS);
        return text;
    }
}
"""


def java(visit: Visit, *asked: str) -> str:
    source = visit.home / "Get.java"
    source.write_text(GET)
    return visit.run("java", *visit.options, str(source), *asked)


@client(
    "Java, HttpURLConnection",
    version=["java", "-version"],
    explicit=PROXY,
    root=TRUST,
    refusal=REFUSAL,
    note="`JAVA_TOOL_OPTIONS` gives the options to every JVM; or import into the JVM's own store (`keytool -cacerts`)",
    needs=["keytool", "javac"],
)
def java_connection(visit: Visit) -> str:
    return java(visit, "connection", visit.url("/"))


@client(
    "Java, java.net.http.HttpClient",
    version=["java", "-version"],
    explicit=PROXY,
    root=TRUST,
    refusal=REFUSAL,
    note="Where the program itself calls `proxy(…)` or `sslContext(…)`, that counts",
    needs=["keytool", "javac"],
)
def java_http_client(visit: Visit) -> str:
    return java(visit, "client", visit.url("/"))


@client(
    "Java, its WebSocket",
    version=["java", "-version"],
    explicit=PROXY,
    root=TRUST,
    refusal=REFUSAL,
    needs=["keytool", "javac"],
)
def java_websocket(visit: Visit) -> str:
    return java(visit, "websocket", visit.url("/ws", "wss"), TEXT)
