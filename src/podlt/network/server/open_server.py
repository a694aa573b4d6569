"""The way into a run by its own server: where it listens, the first invitation, the manager's link."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from podlt.access import invitation_code
from podlt.access.first_invitation import first_invitation, wall_milliseconds
from podlt.access.invitation import read, write
from podlt.access.registry import Registry
from podlt.addresses import bracketed, is_any, is_free, own_address
from podlt.engine.interface import Job
from podlt.errors import UsageError
from podlt.network.server.admission import Admission
from podlt.network.server.manager_link import Counted, ServerLink
from podlt.network.server.pages import address_page
from podlt.network.settings import load_settings, save_settings
from podlt.store.run_names import SERVER

ANYWHERE = "0.0.0.0"


class OpenServer:
    """A run's server.

    Args:
        host: the address to listen on.
        port: 0 for any.
        names: hosts by which workers reach this machine (unless given, all of these stay as they were when the run
            began).
        tell: takes a line for the operator.
        count: see `Counted`.

    Attributes:
        line: the invitation.
        code: the same, short.
        urls: of the server.
    """

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        names: Sequence[str] = (),
        *,
        tell: Callable[[str], None] = lambda line: None,
        count: Counted = lambda workers, received, sent: None,
    ) -> None:
        self._host, self._port, self._names = host, port, list(names)
        self._tell, self._count = tell, count
        self.line = self.code = self.operator = ""
        self.urls: list[str] = []

    def connect(self, job: Job) -> ServerLink:
        """Starts the server, and invites as many workers as the recipe asks for.

        Raises:
            UsageError: the port that workers know is taken, or an address is none of this machine.
            StorageError: a file cannot be written.
        """
        before = load_settings(job.directory)
        host = self._host or before.host or ANYWHERE
        names = self._names or list(before.names) or [own_address() if is_any(host) else host]
        port = self._port or before.server_port
        if port and not is_free(host, port):
            raise UsageError(f"cannot listen on {host}, port {port}: another program does")
        folder = job.directory / SERVER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        registry = Registry(job.directory)
        admission = Admission(registry, self._tell)
        link = ServerLink(job.key.public, folder, admission, tell=self._tell, count=self._count)
        try:
            port = link.start(host, port)
            save_settings(job.directory, host=host, names=tuple(names), server_port=port)
            self.urls = link.urls = [f"https://{bracketed(name)}:{port}" for name in names]
            self.line = first_invitation(registry, job.key, self.urls, link.certificate, job.workers)
            invited = read(self.line)
            self.code = invitation_code.write(invited)
            link.routes.add(
                invitation_code.ADDRESS_PATH,
                address_page(lambda: write(registry.invite(job.key, now=wall_milliseconds(), address=True))),
            )
            issued = registry.state.invitations.get(invited.name)
            self.operator = issued.operator if issued is not None else ""
        except BaseException:
            link.close()
            raise
        return link
