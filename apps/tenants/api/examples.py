"""What goes in and out, as the schema shows it."""

API_KEY = {
    "id": "019cadc6-9a8c-7cae-ad91-2a41bfefd569",
    "name": "web shop",
    "prefix": "nbl_4d1147859a",
    "scopes": ["chat", "usage"],
    "expires_at": "2027-03-02T09:00:00Z",
    "revoked_at": None,
    "last_used_at": None,
    "created_at": "2026-03-02T09:00:00.012345Z",
}
API_KEY_REQUEST = {name: API_KEY[name] for name in ("name", "scopes")}
ISSUED_API_KEY = {**API_KEY, "key": f"nbl_4d1147859a_{'0' * 64}"}

#: Somebody who was invited a moment ago.
MEMBER = {
    "id": "019cadc8-9c40-797a-b8c4-462adfdf300c",
    "username": "ines",
    "email": "",
    "role": "admin",
    "accepted": False,
    "created_at": "2026-03-02T09:02:11.520417Z",
}
MEMBER_REQUEST = {name: MEMBER[name] for name in ("username", "role")}

#: One that was stored again a month later.
CREDENTIAL = {
    "provider": "openai",
    "hint": "4fQ2",
    "base_url": "",
    "created_at": "2026-03-02T09:04:35.171903Z",
    "rotated_at": "2026-04-02T08:11:20.660412Z",
}
CREDENTIAL_REQUEST = {"secret": "sk-proj-0000000000000000000000000000000000004fQ2"}
