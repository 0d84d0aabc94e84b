"""What is called for a flow that is sent elsewhere, with scripts that were loaded again meanwhile."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from config.settings import Inspection
from proxy.lanes.inspection.inspectors import Inspectors
from proxy.log import Log


def test_a_flow_keeps_its_scripts_where_another_host_s_join_them(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.py").write_text("def request(flow):\n    pass\n")
    hosts = {"one": ["b.example"], "two": ["a.example"], "three": ["a.example", "b.example"]}
    settings = Inspection.model_validate(
        {"addons": [{"script": str(tmp_path / f"{name}.py"), "hosts": each} for name, each in hosts.items()]}
    )

    async def main() -> None:
        with (tmp_path / "log").open("wb") as log:
            inspectors = Inspectors(settings, Log(log.fileno(), "info", "test", time.time))
            inspectors.load()
            before = inspectors.plan("t", "a.example")
            inspectors.reload()
            unseen = inspectors.unseen(before, "t", "b.example")
            together = inspectors.together(before, unseen)
            assert [script.name for script in unseen.scripts] == ["one"]
            assert [script.name for script in together.scripts] == ["one", "two", "three"]
            assert together.scripts[1:] == before.scripts
            await inspectors.stop()

    asyncio.run(main())


def test_a_script_says_which_bodies_it_needs_where_the_configuration_leaves_it_to_it(tmp_path: Path) -> None:
    hooks = "def request(flow): ...\ndef response(flow): ...\n"
    for name, says in (("plain", ""), ("none", "none"), ("one", "response"), ("nonsense", "some"), ("told", "none")):
        (tmp_path / f"{name}.py").write_text(f"sallyport_body = {says!r}\n{hooks}" if says else hooks)
    settings = Inspection.model_validate(
        {
            "addons": [
                {"script": str(tmp_path / f"{name}.py"), "hosts": [f"{name}.example"]}
                | ({"body": "request"} if name == "told" else {})
                for name in ("plain", "none", "one", "nonsense", "told")
            ]
        }
    )

    async def main() -> None:
        with (tmp_path / "log").open("wb") as log:
            inspectors = Inspectors(settings, Log(log.fileno(), "info", "test", time.time))
            inspectors.load()
            names = ("plain", "none", "one", "nonsense", "told")
            plans = {name: inspectors.plan("t", f"{name}.example") for name in names}
            assert {name: (plan.request_body, plan.response_body) for name, plan in plans.items()} == {
                "plain": (True, True),
                "none": (False, False),
                "one": (False, True),
                "nonsense": (True, True),
                "told": (True, False),
            }
            await inspectors.stop()

    asyncio.run(main())
