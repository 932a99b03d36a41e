import json
import re
from pathlib import Path

import httpx
import pytest
from fastapi.responses import JSONResponse

from tests.doubles import EchoEngine, replica_around
from tests.service.replicas import client_of

pytestmark = pytest.mark.anyio


async def test_classify_takes_images_forms_and_json(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/v1/classify"]["post"]
    assert operation["requestBody"]["content"].keys() == {
        "application/octet-stream",
        "multipart/form-data",
        "application/json",
    }


async def test_every_error_has_an_example(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path, method in (("/v1/classify", "post"), ("/healthz/live", "get"), ("/healthz/ready", "get")):
        responses = paths[path][method]["responses"]
        for status, response in responses.items():
            assert response["headers"].keys() >= {"X-Request-Id", "Server-Timing"}, status
            if status == "200":
                continue
            for example in response["content"]["application/json"]["examples"].values():
                assert example["value"]["error"].keys() >= {"code", "message"}
            assert response["description"]
    responses = paths["/v1/classify"]["post"]["responses"]
    assert responses["429"]["headers"]["Retry-After"]["required"]
    assert set(responses) == {
        "200", "400", "401", "404", "406", "408", "413", "415", "422", "429", "431", "500", "503", "504"
    }  # fmt: skip


async def test_inference_is_described(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v2/models/{model}/infer"]["post"]
    assert operation["requestBody"]["content"].keys() == {"application/json", "application/octet-stream"}
    assert operation["responses"].keys() >= {"200", "400", "404", "413", "415", "422", "429", "500", "503", "504"}
    assert operation["responses"]["200"]["content"].keys() == {"application/json", "application/octet-stream"}
    assert "/v2/" not in document["paths"]
    assert "$defs" not in json.dumps(document)


async def test_generators_find_a_name_a_type_and_a_place_for_everything(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = {
        operation["operationId"]: (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
    }
    assert len(operations) == sum(map(len, document["paths"].values()))
    for name, (path, operation) in operations.items():
        assert re.fullmatch("[a-z_]+", name)
        assert len(operation["tags"]) == 1
        parameters = {each["name"]: each for each in operation.get("parameters", []) if each["in"] == "path"}
        assert {f"{{{each}}}" for each in parameters} == {each for each in path.split("/") if each[:1] == "{"}
        for each in parameters.values():
            assert each["schema"]["type"] == "string"
            assert each["required"]
        assert "HTTPValidationError" not in json.dumps(operation)
    assert {"classify", "model_infer", "model_version_infer", "repository_index"} <= operations.keys()
    named = set(re.findall('#/components/schemas/([^"]+)', json.dumps(document)))
    assert named == set(document["components"]["schemas"])


async def test_it_is_written_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    render = JSONResponse.render

    def noted(self: JSONResponse, content: object) -> bytes:
        written.append(content)
        return render(self, content)

    monkeypatch.setattr(JSONResponse, "render", noted)
    async with client_of(replica_around(EchoEngine(), tmp_path / "models")) as client:
        answers = [await client.get("/openapi.json") for _ in range(3)]
    assert len({answer.content for answer in answers}) == len(written) == 1
    assert answers[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("needed", [False, True])
async def test_who_asks_for_a_key_says_so_and_nobody_else(tmp_path: Path, needed: bool) -> None:
    (tmp_path / "keys").write_text("0" * 64)
    settings = {"api_keys_file": tmp_path / "keys"} if needed else {}
    replica = replica_around(EchoEngine(), tmp_path / "models", admin_keys_file=tmp_path / "keys", **settings)
    sent = [{"ApiKey": []}, {"Bearer": []}]
    async with client_of(replica) as client:
        document = (await client.get("/openapi.json")).json()
        assert document["components"]["securitySchemes"].keys() == {"ApiKey", "Bearer"}
        for path, operations in document["paths"].items():
            ((method, operation),) = operations.items()
            answer = await client.request(method, path.format(model="echo", version="1"))
            security = operation.get("security")
            if answer.status_code == 401:
                assert security == sent, path
            else:
                assert security == (None if needed or "401" not in operation["responses"] else [{}, *sent]), path
        assert document["paths"]["/v1/classify"]["post"]["security"]
        assert "security" not in document["paths"]["/healthz/ready"]["get"]
