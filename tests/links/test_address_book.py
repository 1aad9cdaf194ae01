"""
Where nodes are, and what is found on a port.
"""

from twisted.internet.defer import Deferred

from dcounter.links.address_book import Found
from tests.links.sites import Site


class TestAddressBook:
    def _ask(self, site: Site, node: int, port: int) -> tuple[list[object], Deferred[Found]]:
        asking = Deferred.fromCoroutine(site.address_book.probe(node, port))
        found: list[object] = []
        asking.addBoth(found.append)
        return found, asking

    def test_tells_who_answers(self) -> None:
        site = Site()
        site.listen(9001, 1)
        site.listen(9002, None)
        found = [
            self._ask(site, node, port)[0] for node, port in [(1, 9001), (2, 9001), (1, 9003), (1, 9002)]
        ]
        site.run(0.5)
        assert found == [["it"], ["another"], ["another"], []]
        site.run(1)
        assert found[3] == ["nothing in time"]
        site.run(1)
        site.stop()

    def test_asking_can_be_given_up(self) -> None:
        site = Site()
        site.listen(9002, None)
        found, asking = self._ask(site, 1, 9002)
        site.run()
        asking.cancel()
        assert len(found) == 1
        site.run(2)
        site.stop()

    def test_who_hangs_up_is_not_there(self) -> None:
        site = Site()
        site.listen(9002, None)
        found, _ = self._ask(site, 1, 9002)
        site.run()
        site.nodes[0].hang_up()
        site.run()
        assert found == ["another"]
        site.stop()
