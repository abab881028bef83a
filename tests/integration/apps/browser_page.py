"""A page that speaks WebSocket, fetch and EventSource with this worker at once, and reports what it has seen."""

from typing import Final

from . import probe, websocket_probe
from .probe import Receive, Scope, Send

PAGE: Final = b"""<!doctype html><meta charset="utf-8"><title>a browser</title><script>
const seen = {};
const base = location.origin.replace("http", "ws");
function promise(name, begin) {
    return new Promise((resolve) => begin((value) => { seen[name] = value; resolve(); }));
}
function echo(name, target, messages) {
    return promise(name, (done) => {
        const socket = new WebSocket(`${base}${target}`, ["v2", "v1"]);
        socket.binaryType = "arraybuffer";
        const received = [];
        socket.onopen = () => messages.forEach((message) => socket.send(message));
        socket.onmessage = (event) => {
            received.push(typeof event.data === "string" ? event.data.length : event.data.byteLength);
            if (received.length === messages.length) socket.close(4000, "done");
        };
        socket.onclose = (event) => {
            const extension = socket.extensions.split(";")[0];
            done([received, socket.protocol, extension, event.code, event.reason, event.wasClean]);
        };
    });
}
function refused(name, target) {
    return promise(name, (done) => {
        const socket = new WebSocket(`${base}${target}`);
        socket.onclose = (event) => done([event.code, event.reason, event.wasClean]);
    });
}
async function fetches(name, count) {
    const bodies = await Promise.all(
        Array.from({ length: count }, (_, number) => fetch(`/target?${number}`).then((answer) => answer.text())));
    seen[name] = bodies;
}
function events(name) {
    return promise(name, (done) => {
        const source = new EventSource("/events");
        const received = [];
        source.onmessage = (event) => {
            received.push(event.data);
            if (received.length === 5) { source.close(); done(received); }
        };
    });
}
window.onload = async () => {
    const large = new Uint8Array(300000).map((_, index) => index % 251);
    await Promise.all([
        echo("texts", "/echo", ["", "a", "\\u00e4".repeat(1000), "x".repeat(200000)]),
        echo("bytes", "/echo", [new Uint8Array(3), large]),
        refused("denied", "/deny"),
        refused("closed", "/close?4002-enough"),
        fetches("fetches", 20),
        events("events"),
        events("more events"),
    ]);
    await fetch("/report", { method: "POST", body: JSON.stringify(seen) });
    document.title = "reported";
};
</script>"""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await websocket_probe.app(scope, receive, send)
    elif scope["path"] == "/":
        await probe.respond(send, PAGE, fields=((b"content-type", b"text/html; charset=utf-8"),))
    elif scope["path"] == "/events":
        await events(send)
    elif scope["path"] == "/report":
        await probe.note("report", (await probe.read_body(receive)).decode())
        await probe.respond(send, b"thank you")
    else:
        await probe.app(scope, receive, send)


async def events(send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(5):
        body = f"data: event {number}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body"})
