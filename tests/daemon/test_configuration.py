"""
Options from the environment and from files, what is refused there, and what is made from their list.
"""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.python.usage import UsageError

from dcounter.daemon import reference
from dcounter.daemon.configuration import lines_of_keys, read_environment, read_file
from dcounter.daemon.option_table import DAEMON, NODE
from dcounter.daemon.options import NodeOptions, Options
from dcounter.daemon.settings import Setting, shown

_ROOT = Path(__file__).parents[2]

BOTH = pytest.mark.parametrize("settings", [DAEMON, NODE], ids=["daemon", "node"])


def configured(
    tmp_path: Path, text: str, *arguments: str, environ: dict[str, str] | None = None, name: str = "c.toml"
) -> Options:
    (tmp_path / name).write_text(text)
    options = Options(environ or {})
    options.parseOptions([f"--config={tmp_path / name}", *arguments])
    return options


class TestPrecedence:
    def test_the_strongest_source_wins(self, tmp_path: Path) -> None:
        text = 'nodes = 2\nnode-port = 9000\nack = "all"\nidle = 5'
        environ = {"DCOUNTER_NODES": "3", "DCOUNTER_NODE_PORT": "9100"}
        options = configured(tmp_path, text, "--nodes=5", environ=environ)
        assert [options[name] for name in ("nodes", "node-port", "ack", "consistency", "idle")] == [
            *(5, 9100, "all", "exact", 5.0)
        ]
        assert [options.source_of(name) for name in ("nodes", "node-port", "ack", "consistency")] == [
            *("the command line", "the environment", str(tmp_path / "c.toml"), "the default")
        ]

    def test_the_environment_names_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "c.toml").write_text("nodes = 2")
        options = Options({"DCOUNTER_CONFIG": str(tmp_path / "c.toml")})
        options.parseOptions([])
        assert options["nodes"] == 2

    def test_a_list_replaces_a_list(self, tmp_path: Path) -> None:
        text = 'host = ["a.example", "b.example"]'
        assert configured(tmp_path, text)["host"] == ["a.example", "b.example"]
        assert configured(tmp_path, text, "--host=c.example")["host"] == ["c.example"]
        environ = {"DCOUNTER_HOST": "d.example, e.example"}
        assert configured(tmp_path, text, environ=environ)["host"] == ["d.example", "e.example"]

    def test_a_flag_can_be_taken_back(self, tmp_path: Path) -> None:
        assert configured(tmp_path, "insecure = true")["insecure"] is True
        assert (
            configured(tmp_path, "insecure = true", environ={"DCOUNTER_INSECURE": "no"})["insecure"] is False
        )

    def test_paths_of_a_file_start_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "below").mkdir()
        options = configured(tmp_path, 'data-dir = "d"\ntokens-file = "/t"', name="below/c.toml")
        assert (options["data-dir"], options["tokens-file"]) == (str(tmp_path / "below" / "d"), "/t")

    def test_options_are_checked_together_wherever_they_come_from(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--in-memory keeps nothing on disk, so --data-dir would have"):
            configured(tmp_path, "in-memory = true", environ={"DCOUNTER_DATA_DIR": "d"})

    def test_a_node_has_a_file_of_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "n.toml").write_text(
            'id = 1\nlisten = "tcp:9001"\npeer = ["0=tcp:10.0.0.1:8090"]\nsecret-file = "s"'
        )
        options = Options({})
        options.parseOptions(["node", "--config", str(tmp_path / "n.toml")])
        node: Any = options.subOptions
        assert isinstance(node, NodeOptions)
        assert (node["id"], node["port"], node["peers"]) == (1, 9001, {0: ("10.0.0.1", 8090)})
        assert node["secret-file"] == str(tmp_path / "s")

    def test_options_before_the_word_node_are_refused(self) -> None:
        with pytest.raises(UsageError, match="options of a node come after the word node: --nodes"):
            Options({}).parseOptions(["--nodes=2", "node", "--secret-file=s"])


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("node = 3", "line 1: there is no option 'node': did you mean nodes?"),
            ("\n# c\nmax_body = 2048", "line 3: there is no option 'max_body': did you mean max-body?"),
            ('secret = "x"', "line 1: there is no option 'secret': did you mean secret-file?"),
            ("zebra = 1", "line 1: there is no option 'zebra'"),
            ("[http]\nport = 1", "line 1: http must be a text, not a table"),
            ('nodes = "4"', "line 1: nodes must be an integer from 1 to 16, not the text '4'"),
            ("nodes = 4.0", "line 1: nodes must be an integer from 1 to 16, not 4.0"),
            ("nodes = true", "line 1: nodes must be an integer from 1 to 16, not true"),
            ("nodes = 17", "line 1: nodes must be an integer from 1 to 16, not '17'"),
            ("nodes = [4]", "line 1: nodes must be an integer from 1 to 16, not a list"),
            ("idle = nan", "line 1: idle must be 1 to 86400 seconds, not 'nan'"),
            ("http = 8085", "line 1: http must be a text, not 8085"),
            ("insecure = 1", "line 1: insecure must be true or false, not 1"),
            ('host = "a"', "line 1: host must be a list of texts, not the text 'a'"),
            ('host = [\n"a",\n"b:1"]', "line 1: host must be a host name"),
            ("host = [1]", "line 1: host must be a host name .*, not 1"),
            ('tokens-file = ""', "line 1: tokens-file must be a path, not ''"),
            ("rebuild = [1]", "line 1: rebuild works on the command line only"),
            ("nodes = 4 5", r"the file is not TOML: .* line 1"),
        ],
    )
    def test_of_a_file_name_the_line(self, text: str, why: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=f"c.toml(, |: ){why}".replace("?", r"\?")):
            configured(tmp_path, text)

    def test_all_are_told_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as refused:
            configured(tmp_path, "node = 3\nidle = 0", environ={"DCOUNTER_ACK": "none"})
        assert str(refused.value).splitlines() == [
            "DCOUNTER_ACK: must be one of node, primary, majority, all, not 'none'",
            f"{tmp_path}/c.toml, line 1: there is no option 'node': did you mean nodes?",
            f"{tmp_path}/c.toml, line 2: idle must be 1 to 86400 seconds, not '0'",
        ]

    def test_of_a_file_that_is_none(self, tmp_path: Path) -> None:
        for content, why in [
            (None, "cannot be read: No such file or directory"),
            (b"\xff", "is not TOML: .*decode"),
            (b"#" * 300_000, "has more than 262144 bytes"),
        ]:
            if content is not None:
                (tmp_path / "x").write_bytes(content)
            with pytest.raises(UsageError, match=f"x: the file {why}"):
                Options({}).parseOptions([f"--config={tmp_path / 'x'}"])

    @pytest.mark.parametrize(
        ("variable", "meant"),
        [
            ("DCOUNTER_NODE", "DCOUNTER_NODES"),
            ("DCOUNTER_TOKENS_FILES", "DCOUNTER_TOKENS_FILE"),
            # Without it callers would need no token.
            ("DCOUNTER_TOKEN_FILE", "DCOUNTER_TOKENS_FILE"),
            ("DCOUNTER_INSECUR", "DCOUNTER_INSECURE"),
        ],
    )
    def test_of_a_misspelt_variable(self, variable: str, meant: str) -> None:
        with pytest.raises(UsageError, match=rf"{variable}: there is no such option: did you mean {meant}\?"):
            Options({variable: "1"}).parseOptions([])

    @pytest.mark.parametrize(
        "variable",
        [
            *("DCOUNTER_URL", "DCOUNTER_TOKEN", "DCOUNTER_SECRET", "DCOUNTER_BOOT"),
            *("DCOUNTER_OPENAPI_EXAMPLES", "DCOUNTER_OPENAPI_SEED", "DCOUNTER_KILL_ROUNDS", "NODES"),
            *("DCOUNTER_PORT", "DCOUNTER_PORT_8085_TCP_ADDR", "DCOUNTER_SERVICE_PORT", "DCOUNTER_REBUILD"),
        ],
    )
    def test_variables_of_others_are_left_alone(self, variable: str) -> None:
        options = Options({variable: "tcp://10.0.0.1:80"})
        options.parseOptions([])
        assert options["rebuild"] == []

    def test_a_misspelt_option_gets_a_suggestion(self) -> None:
        with pytest.raises(
            UsageError, match=r"option --token-file not recognized: did you mean --tokens-file\?"
        ):
            Options({}).parseOptions(["--token-file=x"])


class TestLines:
    def test_are_those_where_keys_begin(self) -> None:
        text = '# one\na = 1\n\nb = [\n  1, # x\n  2]\nc = """\nd = 4\n"""\n[e]\nf = 1\n"g h" = 2\n'
        assert lines_of_keys(text) == {"a": 2, "b": 4, "c": 7, "e": 10}

    @given(
        st.lists(
            st.sampled_from(["\n", "# x = 1\n", "{} = 1\n", "{} = [\n1,\n]\n", '{} = """\nx = 2\n"""\n'])
        )
    )
    def test_of_all_keys_are_found(self, parts: list[str]) -> None:
        text, expected, line = "", {}, 1
        for number, part in enumerate(parts):
            if "{}" in part:
                expected[f"k{number}"] = line
            text += part.format(f"k{number}")
            line += part.count("\n")
        assert lines_of_keys(text) == expected


class TestRereading:
    def test_uses_what_the_file_says_now(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "c.toml").write_text('ack = "all"')
        options = Options({"DCOUNTER_IDLE": "7"})
        options.parseOptions(["--config=c.toml", "--nodes=2"])
        (tmp_path / "c.toml").write_text('ack = "primary"\nnodes = 3\nidle = 9')
        monkeypatch.chdir("/")
        again = options.reread()
        assert [again[name] for name in ("ack", "nodes", "idle")] == ["primary", 2, 7.0]


class TestTheList:
    @BOTH
    def test_is_clear(self, settings: tuple[Setting, ...]) -> None:
        names = [each.name for each in settings]
        assert len(set(names)) == len(names)
        for each in settings:
            assert each.help[-1] == "."
            assert each.group
            assert each.example or each.default is not None or each.once, each.name
            # A file cannot say "none".
            assert each.default is not None or not each.is_flag

    @BOTH
    def test_defaults_are_values(self, settings: tuple[Setting, ...]) -> None:
        for each in settings:
            if each.default is not None and not isinstance(each.default, tuple):
                assert each.read(shown(each.default), each.name) == each.default

    @BOTH
    def test_the_file_in_etc_can_be_used_when_every_line_is(
        self, settings: tuple[Setting, ...], tmp_path: Path
    ) -> None:
        name = "dcounter.toml" if settings is DAEMON else "dcounter-node.toml"
        lines = (_ROOT / "etc" / name).read_text().splitlines()
        assert tomllib.loads("\n".join(lines)) == {}
        text = "\n".join(line.removeprefix("#") for line in lines if line[:1] != "#" or line[1:2] != " ")
        (tmp_path / name).write_text(text)
        source = read_file(settings, str(tmp_path / name))
        assert source.findings == []
        assert set(source.values) == {each.name for each in settings if not each.once}
        defaults = {
            each.name: each.default for each in settings if each.default is not None and not each.example
        }
        assert {
            name: value for name, value in source.values.items() if name in defaults and name != "data-dir"
        } == {name: value for name, value in defaults.items() if name != "data-dir" and name in source.values}

    @BOTH
    def test_the_environment_can_give_each(self, settings: tuple[Setting, ...]) -> None:
        environ = {each.variable: each.example or shown(each.default) for each in settings if not each.once}
        source = read_environment(settings, environ)
        assert source.findings == []
        assert set(source.values) == {each.name for each in settings if not each.once}

    def test_what_is_made_from_it_is_up_to_date(self) -> None:
        stale = [str(path) for path, text in reference.made(_ROOT).items() if path.read_text("utf-8") != text]
        assert stale == [], "run: make options"
