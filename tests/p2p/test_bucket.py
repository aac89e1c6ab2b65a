"""Buckets: a burst, then a rate; a key each, of the keys last heard of."""

from p2p.bucket import Buckets, full_bucket


def test_a_bucket_fills_again_up_to_its_burst():
    bucket = full_bucket(rate=2.0, burst=3.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_what_is_refused_takes_nothing():
    bucket = full_bucket(rate=1.0, burst=10.0, now=0.0)
    assert not bucket.take(0.0, 11.0)
    assert bucket.take(0.0, 10.0)
    assert not bucket.take(9.5, 10.0)
    assert bucket.take(10.0, 10.0)


def test_every_key_has_a_bucket_of_its_own():
    buckets = Buckets[str](rate=1.0, burst=1.0, size=10)
    assert [buckets.take(0.0, key) for key in "abab"] == [True, True, False, False]
    assert buckets.take(1.0, "a")


def test_the_key_unheard_of_for_longest_is_forgotten():
    buckets = Buckets[str](rate=1.0, burst=1.0, size=2)
    assert [buckets.take(0.0, key) for key in "aabac"] == [True, False, True, False, True]
    assert len(buckets) == 2
    assert not buckets.take(0.0, "a")
    assert buckets.take(0.0, "b")
