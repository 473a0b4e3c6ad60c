"""A model behind uvicorn by hand, for `serving.py`: orjson, an array, scikit-learn, orjson.

`python server_uvicorn.py MODEL PORT`, in the environment of the peer uvicorn.
"""

import pickle
import sys
from pathlib import Path

import numpy as np
import orjson
import uvicorn

MODEL = pickle.loads(Path(sys.argv[1]).read_bytes())
HEADERS = [(b"content-type", b"application/json")]


async def app(scope, receive, send):
    """An ASGI application that knows one request."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    rows = np.array(orjson.loads(body)["dataframe_split"]["data"], dtype=np.float64)
    answer = orjson.dumps({"predictions": MODEL.predict(rows).tolist()})
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    quiet = {"log_level": "warning", "access_log": False}
    uvicorn.run(app, port=int(sys.argv[2]), loop="uvloop", http="httptools", **quiet)
