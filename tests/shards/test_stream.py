import json
from collections import defaultdict
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oapseg.shards.stream import MIX_BLOCK, Stream

SETS = [[5, 5, 3], [7, 1, 7, 2]]
TOTALS = [sum(sizes) for sizes in SETS]


def make(rank=0, world=1, *, shards=SETS, weights=(0.3, 0.7), seed=1, shuffle=True, group=2):
    return Stream(shards, weights, seed=seed, rank=rank, world=world, shuffle=shuffle, group=group)


def by_epoch(tickets):
    epochs = defaultdict(list)
    for ticket in tickets:
        epochs[ticket.set, ticket.epoch].append(ticket.index)
    return epochs


def test_in_order_is_the_order_of_the_shards_again_and_again():
    stream = make(shards=[[2, 3]], weights=[1.0], shuffle=False)
    assert [ticket.index for ticket in islice(stream, 12)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 4), st.integers(0, 99))
def test_every_shuffled_epoch_is_a_permutation(sizes, group, seed):
    total = sum(sizes)
    tickets = list(islice(make(shards=[sizes], weights=[1.0], seed=seed, group=group), 3 * total))
    assert [ticket.epoch for ticket in tickets] == [0] * total + [1] * total + [2] * total
    assert all(sorted(indices) == list(range(total)) for indices in by_epoch(tickets).values())


def test_the_first_epochs_differ():
    epochs = by_epoch(islice(make(shards=[[20, 20]], weights=[1.0]), 120))
    assert len({tuple(indices) for indices in epochs.values()}) == 3


def test_another_seed_gives_another_order():
    assert list(islice(make(seed=1), 20)) != list(islice(make(seed=2), 20))


def test_samples_move_only_within_a_group_of_whole_shards():
    sizes = [10] * 12
    tickets = list(islice(make(shards=[sizes], weights=[1.0], group=3), 120))
    for start in range(0, 120, 30):
        assert len({ticket.index // 10 for ticket in tickets[start : start + 30]}) == 3


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_the_draws_of_one_stream(world):
    whole = list(islice(make(), 60))
    ranks = [list(islice(make(rank, world), 60 // world)) for rank in range(world)]
    assert sorted((ticket for rank in ranks for ticket in rank), key=lambda ticket: ticket.draw) == whole
    assert all(ticket.draw % world == rank for rank in range(world) for ticket in ranks[rank])


@pytest.mark.parametrize("shuffle", [True, False])
def test_none_is_seen_twice_in_an_epoch_of_mixed_sets(shuffle):
    epochs = by_epoch(islice(make(shuffle=shuffle), 8 * MIX_BLOCK))
    assert all(len(set(indices)) == len(indices) for indices in epochs.values())
    finished = [key for key in epochs if (key[0], key[1] + 1) in epochs]
    assert all(len(epochs[key]) == TOTALS[key[0]] for key in finished)


@pytest.mark.parametrize("shuffle", [True, False])
def test_shares_follow_the_weights_closely(shuffle):
    stream = make(shards=[[9], [9], [9]], weights=[1.0, 2.0, 5.0], shuffle=shuffle)
    tickets = list(islice(stream, 640))
    for end in (64, 128, 640):
        counts = [sum(ticket.set == chosen for ticket in tickets[:end]) for chosen in range(3)]
        assert counts == pytest.approx([end / 8, end / 4, end * 5 / 8], abs=1)


def test_each_rank_sees_every_set():
    ranks = [list(islice(make(rank, 2, weights=[1.0, 1.0]), 32)) for rank in range(2)]
    assert all({ticket.set for ticket in rank} == {0, 1} for rank in ranks)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 80), st.integers(1, 4), st.integers(0, 3))
def test_a_restored_stream_goes_on_exactly(taken, world, rank):
    rank %= world
    stream, resumed = make(rank, world), make(rank, world)
    list(islice(stream, taken))
    resumed.restore(json.loads(json.dumps(stream.position())))
    assert list(islice(stream, 20)) == list(islice(resumed, 20))
    assert stream.position() == resumed.position()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), min_size=1, max_size=5))
def test_worlds_that_change_on_the_way_still_take_every_draw_once(phases):
    position, draws = {"draw": 0}, []
    for world, steps in phases:
        ranks = [make(rank, world) for rank in range(world)]
        for stream in ranks:
            stream.restore(position)
            draws += [ticket.draw for ticket in islice(stream, steps)]
        assert len({json.dumps(stream.position()) for stream in ranks}) == 1
        position = ranks[0].position()
    assert sorted(draws) == list(range(position["draw"]))


def test_a_draw_far_away_costs_no_walk():
    assert make().ticket(10**12).draw == 10**12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [1.0]}, "one weight a set"),
        ({"weights": [1.0, 0.0]}, "weights must be above 0"),
        ({"rank": 2, "world": 2}, "rank must be in 0..1"),
        ({"group": 0}, "group must be at least 1"),
        ({"shards": [[0], [3]]}, "set 0 holds no sample"),
    ],
)
def test_a_wrong_stream_is_refused_in_a_line(change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)


def test_a_position_that_is_none_is_refused():
    with pytest.raises(ValueError, match="a position is"):
        make().restore({"epoch": 3})
