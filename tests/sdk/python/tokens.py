"""Tokens as a backend makes them, with nothing but the standard library."""

import base64
import hashlib
import hmac
import json
import time

SECRET = "sdk-tests-secret"


def token(claims, ttl=None, secret=SECRET):
    """HS256; `ttl` in seconds from now, negative for the past."""

    def encoded(raw):
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    claims = claims if ttl is None else {**claims, "exp": int(time.time()) + ttl}
    signed = b".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    tag = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + encoded(tag)).decode()
