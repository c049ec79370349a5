# SPDX-License-Identifier: MIT
"""The application that the demonstration serves: plain FastAPI.

Nothing in it knows of becket; /loop only tells what it finds running.
"""

import asyncio

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel

app = FastAPI()


class Order(BaseModel):
    name: str
    price: float
    count: int = 1


@app.get("/loop")
async def which_loop():
    loop = asyncio.get_running_loop()
    kind = type(loop)
    return {
        "loop": f"{kind.__module__}.{kind.__qualname__}",
        "backend": getattr(loop, "backend", None),
    }


@app.get("/items/{item_id}")
async def read_item(item_id: int, q: str = ""):
    if item_id == 0:
        raise HTTPException(status_code=404, detail="no such item")
    return {"item_id": item_id, "q": q}


@app.post("/orders")
async def make_order(order: Order):
    return {"name": order.name, "total": order.price * order.count}


@app.post("/echo")
async def echo(request: Request):
    return Response(await request.body())
