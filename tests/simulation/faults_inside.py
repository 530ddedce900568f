"""Faults of hosts and their agents, and what people do."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from spotjob.core.resources import DRILL_ANNOTATION
from tests.simulation.choosing import Choosing

DRILLS = ("10", "30", "30", "120", "600", "9", "601", "0120", "-30", "soon", "")


class InsideFaults(Choosing):
    """Each returns False when there was nothing to spoil."""

    # ---- people ----

    async def people_delete(self) -> bool:
        if (key := self._job()) is None:
            return False
        uid = self._world.cluster.job(key).metadata.uid
        self.deleted.add(uid)
        self.edits[uid] += 1
        self._world.cluster.delete(key)
        return True

    async def people_suspend(self) -> bool:
        if (key := self._job()) is None:
            return False
        uid = self._world.cluster.job(key).metadata.uid
        self._suspend(key, uid, True)
        await asyncio.sleep(self._chance.uniform(0, 60))
        self._suspend(key, uid, False)
        return True

    def _suspend(self, key: str, uid: str, suspend: bool) -> None:
        with suppress(KeyError):
            if self._world.cluster.job(key).metadata.uid == uid:
                self.suspended.add(uid)
                self.edits[uid] += 1
                self._world.cluster.suspend(key, suspend)

    async def people_drill(self) -> bool:
        """On whatever job there is, a finished one too."""
        if (key := self._job()) is None:
            return False
        uid = self._world.cluster.job(key).metadata.uid
        self.drills[uid] += 1
        self.edits[uid] += 1
        self._world.cluster.annotate(key, DRILL_ANNOTATION, self._chance.choice(DRILLS))
        return True

    def stop_some_calmly(self) -> None:
        """In peace: people delete or suspend jobs whose containers run."""
        for key in list(self._world.cluster.jobs):
            job = self._world.cluster.job(key)
            if self._world.running[job.metadata.uid] == 0 or job.deleting or self._chance.random() < 0.5:
                continue
            self.calmly_stopped.add(job.metadata.uid)
            if self._chance.random() < 0.5:
                self.deleted.add(job.metadata.uid)
                self.edits[job.metadata.uid] += 1
                self._world.cluster.delete(key)
            else:
                self._suspend(key, job.metadata.uid, True)

    # ---- hosts ----

    async def host_agent_restart(self) -> bool:
        if (host := self._host()) is None:
            return False
        host.restart_agent()
        return True

    async def host_agent_dies(self) -> bool:
        if (host := self._host()) is None:
            return False
        host.kill_agent()
        return True

    async def host_reboot(self) -> bool:
        if (host := self._host()) is None:
            return False
        self.rebooted.add(host.id)
        host.reboot()
        return True

    async def host_hangs(self) -> bool:
        """Its agent falls silent and its timers stand still; EC2's checks find it out."""
        if (host := self._host()) is None:
            return False
        host.hang(container_too=self._chance.random() < 0.5)
        self.impaired[host.id] += 1
        self._world.ec2.impair(host.id)
        forever = self._chance.random() < 0.5
        await asyncio.sleep(self._chance.choice((20, 200, 400)))
        if host.instance.alive and not forever:
            host.recover()
            self._world.ec2.impair(host.id, False)
        return True

    async def host_no_agents(self) -> bool:
        self._world.agents_work = False
        await asyncio.sleep(self._chance.uniform(5, 90))
        self._world.agents_work = True
        return True

    async def host_cut_off(self) -> bool:
        self._world.cut(self._world.api_line)
        await asyncio.sleep(self._chance.uniform(1, 60))
        self._world.mend(self._world.api_line)
        return True

    async def host_dies_unheard(self) -> bool:
        """The API is away until a result stands on a console only, and then that instance goes."""
        self._world.cut(self._world.api_line)
        for _ in range(100):
            await asyncio.sleep(1)
            unheard = [h for h in self._world.hosts.values() if h.unheard and h.instance.alive and h.instance.spot]
            if unheard:
                host = self._chance.choice(unheard)
                self.reclaimed.add(host.id)
                self._world.ec2.reclaim(host.id)
                await asyncio.sleep(self._chance.uniform(0, 120))
                break
        self._world.mend(self._world.api_line)
        return True
