import httpx


def test_a(service, client):
    assert httpx.get(service.url + "/livez").status_code == 200


def test_slow(slow):
    r = httpx.get(slow + "/readyz", timeout=30)
    print(r.text)
    assert 0
