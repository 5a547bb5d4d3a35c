"""Spool, outbox and publisher of a device, driven by the test's thread."""

import queue
import time
from collections.abc import Callable
from typing import Any

from skyreid.contract.device import Birth, BirthCamera
from skyreid.contract.sighting import ModelRef
from skyreid.edge.config import MqttSection
from skyreid.edge.delivery.connection import Down, Event, Received, Taken, Up
from skyreid.edge.delivery.outbox import Outbox
from skyreid.edge.delivery.publisher import Publisher
from skyreid.edge.delivery.spool import Spool


class Device:
    """With settings as a user writes them; ``broker`` is whom a test gave it, if it did."""

    def __init__(
        self,
        spool: Spool,
        model: ModelRef,
        *,
        pictures: Any = "never",
        broker: Any = None,
        **mqtt: object,
    ) -> None:
        section = MqttSection.model_validate(mqtt)
        self.spool, self.model, self.broker, self.ups = spool, model, broker, 0
        self.outbox = Outbox(spool, site="square", device="dev1", model=model)
        self.publisher = Publisher(
            section.address[:2],
            site="square",
            device="dev1",
            tls=section.tls(),
            inflight_max=section.inflight_max,
        )
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        camera = BirthCamera(id="cam1", view="aerial")
        birth = Birth(boot=spool.boot, model=model, cameras=(camera,), pictures=pictures)
        self.publisher.start(birth, self._inbox.put)

    def step(self) -> None:
        """What a turn of a device's main thread does for its delivery."""
        try:
            event = self._inbox.get(timeout=0.02)
        except queue.Empty:
            event = None
        if isinstance(event, Up):
            self.ups += 1
            self.outbox.up(event.link)
        elif isinstance(event, Down):
            self.outbox.down()
        elif isinstance(event, Taken):
            self.outbox.acknowledged(event.message)
        elif isinstance(event, Received):
            self.spool.append((), self.model, settled=self.outbox.receipt(event.receipt))
        self.outbox.pump()

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, dict(self.publisher.troubles)
            self.step()
