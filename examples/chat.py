"""A chat over WebSockets: everybody who has the page open sees what the others write.

gunicorn -k gunicorn_asgi.Worker chat:app

It keeps the guests in the memory of one process, so it needs one worker; with more of them, send the lines through
something that all workers share, such as Redis.
"""

import contextlib

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Chat</title>
<style>
  body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; color: #223; }
  h1 { font-weight: 600; }
  input { font: inherit; width: 100%; box-sizing: border-box; padding: .4rem .6rem; }
  ul { padding-left: 1.2rem; }
  #state { color: #678; }
</style>
<h1>Chat</h1>
<p id="state" role="status">Connecting ...</p>
<form>
  <input aria-label="Your message" placeholder="Write something, then press Enter" autocomplete="off" autofocus>
</form>
<ul id="lines"></ul>
<script>
  const state = document.querySelector("#state"), input = document.querySelector("input");
  let socket;
  function connect() {
    socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/chat`);
    socket.onopen = () => { state.textContent = "Connected. Open this page a second time to talk to yourself."; };
    socket.onmessage = (event) => {
      const line = document.createElement("li");
      line.textContent = event.data;
      document.querySelector("#lines").prepend(line);
    };
    socket.onclose = (event) => {
      state.textContent = `Disconnected (${event.code}). Connecting again ...`;
      setTimeout(connect, 1000);
    };
  }
  document.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    if (input.value && socket.readyState === WebSocket.OPEN) { socket.send(input.value); input.value = ""; }
  };
  connect();
</script>
</html>
"""

app = FastAPI(title="Chat")
guests: set[WebSocket] = set()


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
async def page() -> str:
    return PAGE


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    guests.add(websocket)
    try:
        async for line in websocket.iter_text():
            for guest in tuple(guests):
                with contextlib.suppress(WebSocketDisconnect):  # One that is just leaving.
                    await guest.send_text(line)
    finally:
        guests.discard(websocket)
