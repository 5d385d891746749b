"""The report shows every arm, says what did not work, asks nothing of anyone else, and is the same file every time."""

from __future__ import annotations

import gzip
import html
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import AGENTS, write_evaluation

from envs.errors import UserError
from evaluation.grid import HORIZON_ENDS
from evaluation.maps import success_by_kind, task_map
from evaluation.overview import overview_figure, steps_overview
from evaluation.plots import adaptation_figure, compact, duel_figure, png, steps_figure, steps_to_figure, svg
from evaluation.presets import is_long
from evaluation.report import write_report
from evaluation.report_tables import cost_table
from evaluation.results import Results, duel
from evaluation.style import agent_colour, agent_label, agent_order, drawn_as
from evaluation.summarise import summarise_directory
from evaluation.summary import AgentSummary, SplitSummary
from evaluation.wording import cautions, headline, leader, misses, number, percent, points, signed

FAMILY = "terrain-planar"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All arms on both held-out splits."""
    path = tmp_path_factory.mktemp("evaluation")
    write_evaluation(path, {FAMILY: ("test", "ood")}, tasks=8, episodes=10, long_episodes=40)
    return path


@pytest.fixture(scope="module")
def results(directory: Path) -> Results:
    return Results.read(directory)


@pytest.fixture(scope="module")
def report(directory: Path) -> str:
    return write_report(directory).read_text(encoding="utf-8")


def texts(page: str) -> str:
    """What a reader reads."""
    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)))


class TestReport:
    def test_every_arm_is_in_the_table_and_in_the_curves(self, report: str) -> None:
        for agent in AGENTS:
            assert report.count(f'<tr class="agent-{drawn_as(agent)}">') >= 2, agent
            assert report.count(f'data-agent="{agent}"') == (drawn_as(agent) == agent)
            assert re.search(rf'<g class="agent-{drawn_as(agent)}">', report), agent
            assert agent_label(agent) in texts(report)

    def test_the_headline_is_what_the_summary_says(self, report: str, results: Results) -> None:
        for split in results.summary.results:
            best = leader(split)
            assert best is not None
            assert best.agent == "rl2"
            assert f"{percent(best.curve[0].success)} → {percent(best.final.success)}" in re.sub(
                r"\s*→\s*", " → ", texts(report)
            )
            assert headline(split, best) in texts(report)

    def test_it_asks_nothing_of_anyone_else(self, report: str) -> None:
        assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', report)
        assert "@import" not in report
        assert "url(http" not in report
        for address in re.findall(r"https?://[^\"'\s<]+", report):
            assert address.startswith(("http://www.w3.org/", "https://www.w3.org/")), address  # names of XML dialects

    def test_the_same_directory_gives_the_same_bytes(self, directory: Path, report: str, tmp_path: Path) -> None:
        names = {f"figures/{name}.png" for name in (f"{FAMILY}-test", f"{FAMILY}-ood", "overview", "steps")}
        made = {"summary.json", "report.html", *names}
        raw = {"episodes.csv.gz", "tasks.json", "protocol.json"}
        for name in raw - {"episodes.csv.gz"}:
            shutil.copy(directory / name, tmp_path / name)
        (tmp_path / "episodes.csv.gz").write_bytes(gzip.compress((directory / "episodes.csv").read_bytes()))
        summarise_directory(tmp_path)
        write_report(tmp_path)
        found = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
        assert found == made | raw
        for name in made:
            assert (tmp_path / name).read_bytes() == (directory / name).read_bytes(), name

    def test_where_the_directory_is_leaves_no_trace(self, directory: Path, report: str, tmp_path: Path) -> None:
        for name in ("episodes.csv", "tasks.json", "summary.json"):
            shutil.copy(directory / name, tmp_path / name)
        assert write_report(tmp_path).read_text(encoding="utf-8") == report

    def test_identifiers_are_not_shared_between_figures(self, report: str) -> None:
        defined = re.findall(r'<(?:path|clipPath)[^>]* id="([^"]+)"', report)
        assert len(defined) == len(set(defined)) > 0
        used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', report))
        assert used <= set(re.findall(r' id="([^"]+)"', report))

    def test_films_are_embedded_under_their_family_when_small(self, directory: Path, tmp_path: Path) -> None:
        shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
        (tmp_path / "films").mkdir()
        (tmp_path / "films" / f"{FAMILY}-test.mp4").write_bytes(b"small")
        (tmp_path / "holiday.mp4").write_bytes(b"large" * 1_500_000)
        page = write_report(tmp_path).read_text(encoding="utf-8")
        assert 'src="data:video/mp4;base64,c21hbGw="' in page
        assert 'src="holiday.mp4"' in page
        assert page.index("c21hbGw=") < page.index("Held-out tasks") < page.index("holiday.mp4")

    def test_wide_tables_say_that_they_go_on(self, report: str) -> None:
        assert "scroll sideways for the rest" in report
        assert "classList.toggle('wide', part.scrollWidth > part.clientWidth + 1)" in report

    def test_both_sides_steps_and_the_price_of_meta_training_are_told(self, report: str, results: Results) -> None:
        split = results.summary.results[0]
        agent = next(a for a in split.agents if a.agent == "rl2")
        assert agent.race is not None
        assert (agent.race.opponent, agent.race.ppo_runs, len(agent.race.tasks)) == ("ppo-long", 1, 4)
        assert report.count("task by task</h4>") == 1  # on `ood` PPO had the common budget alone
        paid = replace(agent, meta_steps=3e6, ppo_equivalent=tuple(
            replace(e, ppo_steps=2000.0, censored=False, tasks_to_pay=187.2) for e in agent.ppo_equivalent
        ))  # fmt: skip
        shown = texts(cost_table(replace(split, agents=(paid,))))
        assert "pays off from 188 tasks on" in shown
        assert re.search(r"after 1 episode\s+PPO needs for as much as\s+after 5 episodes", shown)
        assert "2\u202f000 steps, 33x" in shown  # over the 60 steps of one episode
        assert "2\u202f000 steps, 7x" in shown  # over the 300 of five
        assert cost_table(replace(split, agents=(agent,))) == ""  # its meta-training is not known

    def test_worse_is_below_zero(self, report: str, results: Results) -> None:
        gap = next(g for g in results.summary.gaps if g.agent == "rl2")
        assert gap.success < 0
        assert f"{points(gap.success)}" in texts(report)
        assert "test → ood" in texts(report)

    def test_without_a_scale_the_page_does_not_speak_of_one(self, tmp_path: Path) -> None:
        write_evaluation(tmp_path, {FAMILY: ("test",)}, ("rl2",), tasks=2, seeds=1, episodes=2, long_episodes=2)
        page = texts(write_report(tmp_path).read_text(encoding="utf-8"))
        assert "Scores run from 0" not in page
        assert "returns stand in place of scores" in page

    def test_markup_in_names_is_shown_and_not_obeyed(self, tmp_path: Path) -> None:
        command = "quickstudy <script>alert(1)</script>"
        write_evaluation(
            tmp_path, {FAMILY: ("test",)}, ("rl2",), tasks=2, seeds=1, episodes=2, long_episodes=2, command=command
        )
        page = write_report(tmp_path).read_text(encoding="utf-8")
        assert "alert(1)" in page
        assert "<script>alert" not in page

    @pytest.mark.parametrize("name", ["episodes.csv", "tasks.json", "summary.json"])
    def test_a_missing_file_is_named(self, name: str, directory: Path, tmp_path: Path) -> None:
        for other in {"episodes.csv", "tasks.json", "summary.json"} - {name}:
            shutil.copy(directory / other, tmp_path / other)
        with pytest.raises(UserError, match=name):
            write_report(tmp_path)

    @pytest.mark.parametrize(
        ("agents", "tasks", "seeds"),
        [
            (("rl2",), 1, 1),
            (("rl2", "ppo"), 1, 1),
            (("ppo-robust",), 3, 1),
            (("maml", "random", "ppo-oracle"), 2, 1),
            (("ppo",), 2, 2),
            (("ppo-long",), 5, 1),
            (("rl2", "ppo-finetuned-long", "random", "ppo-oracle"), 5, 1),
        ],
    )
    def test_arms_may_be_missing_and_seeds_and_tasks_few(
        self, agents: tuple[str, ...], tasks: int, seeds: int, tmp_path: Path
    ) -> None:
        write_evaluation(tmp_path, {FAMILY: ("test",)}, agents, tasks=tasks, seeds=seeds, episodes=10, long_episodes=20)
        page = write_report(tmp_path).read_text(encoding="utf-8")
        for agent in AGENTS:
            assert (f'<tr class="agent-{agent}">' in page) == (agent in {drawn_as(other) for other in agents})
        assert ("there is no scale" in page) == (not {"random", "ppo-oracle"} <= set(agents))


class TestFigures:
    def test_long_arms_stand_in_for_short_ones_on_their_tasks(self, results: Results) -> None:
        split = results.summary.results[0]
        longest = results.longest(split)
        names = [agent.agent for agent in longest.agents]
        assert set(names) == set(AGENTS) - {"ppo", "ppo-finetuned"}
        assert {agent.tasks for agent in longest.agents} == {4}
        found = {agent.agent: agent.curve[-1] for agent in longest.agents}
        curves = results.curves(FAMILY, "test", "rl2")
        assert curves is not None
        returns = np.sort(curves.returns[-1][:, :4].ravel())[2:-2]
        assert found["rl2"].episode_return == pytest.approx(returns.mean(), abs=1e-6)
        assert found["ppo-long"].env_steps == 2400
        (out,) = [split for split in results.summary.results if split.split == "ood"]
        assert results.longest(out) is out

    def test_the_overview_has_a_panel_for_each_split_and_no_long_run(self, results: Results) -> None:
        figure = overview_figure(results)
        assert [axes.get_visible() for axes in figure.axes] == [True] * 4  # solved and mean score on either split
        assert [axes.get_ylabel().split("\n")[0] for axes in figure.axes] == ["solved", "mean score"] * 2
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == [agent_label(name) for name in AGENTS if not is_long(name) and name != "random"]
        for axes in figure.axes:
            assert axes.get_xlim() == (0, 10)

    def test_the_figure_over_steps_goes_as_far_as_the_long_runs(self, results: Results) -> None:
        figure = steps_overview(results)
        assert figure is not None
        assert [axes.get_xlim()[1] for axes in figure.axes] == [2400, 2400]
        usual = tuple(
            replace(split, agents=tuple(agent for agent in split.agents if not agent.long))
            for split in results.summary.results
        )
        assert steps_overview(replace(results, summary=replace(results.summary, results=usual))) is None

    def test_a_duel_is_at_the_same_number_of_steps(self, results: Results) -> None:
        found = duel(results, FAMILY, "test", "rl2", 10)
        assert found is not None
        assert (found.env_steps, found.ppo_steps) == (600, 600)
        early = duel(results, FAMILY, "test", "rl2", 9)
        assert early is not None
        assert (early.env_steps, early.ppo_steps) == (540, 0)  # PPO's rounds are of ten episodes
        curves = results.curves(FAMILY, "test", "rl2")
        assert curves is not None
        assert np.allclose(found.ours, curves.returns[-1].mean(axis=0))
        assert duel(results, FAMILY, "test", "ppo", 10) is None
        assert duel(results, FAMILY, "test", "nobody", 10) is None

    def test_a_figure_is_the_same_text_twice(self, results: Results) -> None:
        split = results.summary.results[0]
        assert svg(adaptation_figure(split, 10), "a") == svg(adaptation_figure(split, 10), "a")
        assert png(steps_figure(split, 60), 50) == png(steps_figure(split, 60), 50)

    def test_missing_values_leave_gaps_and_do_not_break_the_figure(self, results: Results) -> None:
        split = results.summary.results[0]
        nan = float("nan")

        def without(agent: AgentSummary, whole: bool) -> AgentSummary:
            curve = tuple(
                replace(p, mean_score=nan, mean_low=nan, mean_high=nan) if whole or p.episode == 0 else p
                for p in agent.curve
            )
            return replace(agent, curve=curve)

        holed = replace(split, agents=tuple(without(a, a.agent == "maml") for a in split.agents))
        drawn = svg(steps_figure(holed, 60), "a")
        assert "RL²" in drawn
        assert "MAML" not in drawn

    def test_marks_say_who_never_got_there(self, results: Results) -> None:
        split = results.summary.results[0]
        figure = steps_to_figure(split, 60)
        assert figure is not None
        drawn = svg(figure, "a")
        maml = next(agent for agent in split.agents if agent.agent == "maml")
        assert maml.steps_to["80"].median is None
        assert "not within" in drawn
        assert figure.axes[0].get_xscale() == "log"  # 60 steps and 2 400 are both to be seen
        left, right = figure.axes[0].get_xlim()
        assert (left, right) == (30, 2400)
        assert steps_to_figure(replace(split, agents=()), 60) is None

    def test_no_duel_without_an_opponent(self, results: Results) -> None:
        split = results.summary.results[0]
        alone = replace(split, agents=tuple(a for a in split.agents if a.agent == "ppo"))
        assert duel_figure(results, alone, 10) is None

    def test_the_map_draws_every_task_and_the_training_range(self, results: Results) -> None:
        splits = list(results.summary.results)
        drawn = task_map(results, splits, 10)
        assert drawn is not None
        first = drawn.figure.axes[0]
        marks = sum(len(np.ma.getdata(c.get_offsets())) for c in first.collections)
        assert marks == 16  # eight tasks of each split
        assert len(first.patches) == 2  # the range, filled and outlined
        assert drawn.agents == ("maml", "rl2", "ppo")

    def test_no_map_of_tasks_that_are_all_alike(self, results: Results) -> None:
        same = {FAMILY: {"test": [results.tasks[FAMILY]["test"][0]] * 8}}
        assert task_map(replace(results, tasks=same), [results.summary.results[0]], 10) is None

    def test_success_by_kind_adds_up(self, results: Results) -> None:
        splits = list(results.summary.results)
        tables = success_by_kind(results, splits, 10)
        assert [table.label for table in tables] == ["surface", "open direction"]
        for table in tables:
            assert set(table.success) == {agent for agent in AGENTS if not is_long(agent)}
            for agent, row in table.success.items():
                assert len(row) == len(table.values)
                total = sum(cell[0] * cell[1] for cell in row if cell is not None)
                means = [a.final.success * a.tasks for s in splits for a in s.agents if a.agent == agent]
                assert total == pytest.approx(sum(means), abs=1e-4)


class TestWords:
    def split(self, results: Results) -> SplitSummary:
        return results.summary.results[0]

    def agent(self, results: Results, **changes: Any) -> AgentSummary:
        found = next(a for a in self.split(results).agents if a.agent == "rl2")
        return replace(found, **changes)

    def test_a_gain_is_only_called_real_when_its_interval_says_so(self, results: Results) -> None:
        agent = self.agent(results)
        split = self.split(results)
        for value, low, high, words in (
            (0.2, 0.1, 0.3, "is real (+20 points, 95\u202f% interval +10 to +30)"),
            (0.1, -0.1, 0.3, "cannot be told from none (+10 points"),
            (-0.2, -0.3, -0.1, "solves fewer as it adapts (\u221220 points"),
        ):
            gain = replace(agent.gain_success, value=value, low=low, high=high)
            text = headline(split, replace(agent, gain_success=gain))
            assert words in text
            assert bool(misses([replace(split, agents=(replace(agent, gain_success=gain),))])) == (low < 0)

    def test_a_rising_score_is_no_gain_where_fewer_are_solved(self, results: Results) -> None:
        """A card set "90 % to 83 % solved" in its largest type and said that the gain was real: the score's."""
        agent = self.agent(results)
        rising = replace(agent.gain, value=0.2, low=0.1, high=0.3)
        falling = replace(agent.gain_success, value=-0.07, low=-0.3, high=0.16)
        text = headline(self.split(results), replace(agent, gain=rising, gain_mean=rising, gain_success=falling))
        assert "cannot be told from none (\u22127 points" in text
        assert "It solved fewer in the end." in text
        assert "real" not in text

    def test_it_says_what_an_interval_is_over_and_what_was_earned_while_adapting(self, results: Results) -> None:
        agent = self.agent(results)
        text = headline(self.split(results), agent)
        assert "2 runs, 8 tasks" in text
        assert agent.adapting is not None
        assert f"While it adapts, exploring, it solves {percent(agent.adapting.success.value)} at a mean score" in text
        assert "one run, so over tasks alone: 8 tasks" in headline(self.split(results), replace(agent, seeds=1))

    def test_ppo_with_the_common_budget_alone_says_nothing_of_what_it_needs(self, results: Results) -> None:
        (out,) = [split for split in results.summary.results if split.split == "ood"]
        best = leader(out)
        assert best is not None
        censored = replace(best.ppo_equivalent[-1], ppo_steps=float(out.budget_steps), censored=True)
        text = headline(out, replace(best, ppo_equivalent=(censored,)))
        assert "was not measured here: it had the common budget alone" in text
        assert "has not got that far" not in text

    def test_cautions_name_the_rule_of_ppo_and_who_was_told_the_task(self, results: Results) -> None:
        protocol = replace(
            results.summary.protocol,
            families={"grasp": "3", "terrain": "2"},
            checkpoints={
                "rl2/grasp/0": "shipped",
                "ppo/grasp/0": f"not trained before, {HORIZON_ENDS}",
                "ppo/terrain/0": "not trained before",
                "ppo-oracle/grasp/0": "runs/oracle, 9 steps, weights 0",
            },
        )
        told, schedule, bootstrap, ended, runs = cautions(protocol)
        assert "Told the task's features in meta-training" in told
        assert "chosen on the benchmark's tasks" in schedule
        assert "PPO from scratch (terrain), PPO oracle (grasp)" in bootstrap
        assert "PPO from scratch (grasp)" in ended
        assert "2 training runs at most" in runs
        assert not cautions(replace(protocol, arms=("ppo",), checkpoints={}, seeds=(0, 1, 2, 3, 4)))
        assert "RL²" not in cautions(replace(protocol, arms=("maml",)))[0]

    def test_ppos_steps_are_a_lower_bound_when_censored(self, results: Results) -> None:
        agent = self.agent(results)
        last = agent.ppo_equivalent[-1]
        for equal, words in (
            (replace(last, ppo_steps=2400.0, censored=True), "has not got that far after 2\u202f400 steps"),
            (replace(last, env_steps=600.0, ppo_steps=1800.0, censored=False), "3 times as many"),
            (replace(last, ppo_steps=0.0, censored=False), "before it has learned"),
            (replace(last, env_steps=600.0, ppo_steps=300.0, censored=False), "gets as far in 300 steps"),
        ):
            text = headline(self.split(results), replace(agent, ppo_equivalent=(equal,)))
            assert words in text

    @pytest.mark.parametrize(
        ("value", "text"), [(0.125, "+0.12"), (-0.5, "\u22120.50"), (-0.001, "0.00"), (0.0, "0.00")]
    )
    def test_signs(self, value: float, text: str) -> None:
        assert signed(value) == text
        assert number(-0.001) == "0.00"

    @pytest.mark.parametrize(
        ("steps", "text"),
        [
            (0, "0"),
            (100, "100"),
            (1000, "1k"),
            (2500, "2\u202f500"),
            (12_800, "13k"),
            (1e6, "1M"),
            (1_250_000, "1.25M"),
        ],
    )
    def test_steps_where_there_is_little_room(self, steps: float, text: str) -> None:
        assert compact(steps) == text

    def test_agents_keep_their_order_and_colour(self) -> None:
        assert agent_order({"random", "zebra", "rl2", "maml", "ant"}) == ["maml", "rl2", "random", "ant", "zebra"]
        assert agent_colour("zebra") == agent_colour("zebra")
        usual = [name for name in AGENTS if not is_long(name)]
        assert len({agent_colour(name) for name in usual}) == len(usual)
        assert (drawn_as("ppo-long"), agent_colour("ppo-long")) == ("ppo", agent_colour("ppo"))
        assert len({agent_label(name) for name in AGENTS}) == len(AGENTS)
