"""Device models, devices and rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from libs import names, paging
from libs.access import current_caller
from libs.errors import Invalid
from quintet.perception.v1 import perception_pb2 as pb
from services.perception import store, wire
from services.perception.model import check_model, check_rule, check_zone
from services.perception.service_parts import Context, Parts

if TYPE_CHECKING:
    from libs.tx import Tx

WRITE_MODELS = "perception.device_models.write"
WRITE_DEVICES = "perception.devices.write"
READ_DEVICES = "perception.devices.read"
WRITE_RULES = "perception.rules.write"
READ_RULES = "perception.rules.read"


class CatalogueMethods(Parts):
    """What platform teams set up."""

    async def PutDeviceModel(self, request: pb.PutDeviceModelRequest, _: Context) -> pb.PutDeviceModelResponse:
        # Models are the node's, not a zone's: who may write somewhere below may not write them.
        current_caller().require(WRITE_MODELS, zone=self._zones().root)
        wanted = wire.model_of(request.device_model)
        check_model(wanted)

        async def put(tx: Tx) -> pb.PutDeviceModelResponse:
            changed = await store.lock_model(tx.conn, wanted.name) != wanted
            if changed:
                await store.put_model(tx.conn, wanted)
            tx.audit(WRITE_MODELS, wanted.name, changed=changed)
            return pb.PutDeviceModelResponse(device_model=wire.model_message(wanted), changed=changed)

        return await self._transactions.mutate(request, pb.PutDeviceModelResponse, put)

    async def ListDeviceModels(self, request: pb.ListDeviceModelsRequest, _: Context) -> pb.ListDeviceModelsResponse:
        of, size = "device models", paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=of)
        rows = await self._transactions.read(
            lambda conn: store.list_models(conn, after=after[0] if after else None, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda model: (model.name,), of=of)
        return pb.ListDeviceModelsResponse(device_models=map(wire.model_message, page), next_page_token=token)

    async def PutDevice(self, request: pb.PutDeviceRequest, _: Context) -> pb.PutDeviceResponse:
        caller, wanted = current_caller(), wire.device_of(request.device)
        check_zone(self._zones(), wanted.zone, "device.name")
        caller.require(WRITE_DEVICES, zone=wanted.zone, organisation=wanted.organisation)

        async def put(tx: Tx) -> pb.PutDeviceResponse:
            # The model is locked first, as PutDeviceModel does, so that the two do not wait for each other.
            if not await store.has_model(tx.conn, wanted.model):
                raise Invalid("device.model", f"{wanted.model} does not exist")
            before = await store.lock_device(tx.conn, wanted.name)
            if before is not None:
                caller.require(WRITE_DEVICES, zone=before.zone, organisation=before.organisation)
            device = replace(wanted, last_seen=before.last_seen if before else None)
            changed = before != device
            if changed:
                await store.put_device(tx.conn, device)
            tx.audit(WRITE_DEVICES, device.name, changed=changed)
            return pb.PutDeviceResponse(device=wire.device_message(device), changed=changed)

        return await self._transactions.mutate(request, pb.PutDeviceResponse, put)

    async def ListDevices(self, request: pb.ListDevicesRequest, _: Context) -> pb.ListDevicesResponse:
        zone = names.parse(request.parent, "zones/{zone}", field="parent")["zone"]
        of, size = f"devices {zone}", paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=of)
        visible, zones = current_caller().visibility(READ_DEVICES), self._zones().codes(zone)
        rows = await self._transactions.read(
            lambda conn: store.list_devices(conn, zones, visible, after=after[0] if after else None, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda device: (device.name,), of=of)
        return pb.ListDevicesResponse(devices=map(wire.device_message, page), next_page_token=token)

    async def PutRule(self, request: pb.PutRuleRequest, _: Context) -> pb.PutRuleResponse:
        caller, wanted = current_caller(), wire.rule_of(request.rule)
        check_zone(self._zones(), wanted.zone, "rule.zone")
        caller.require(WRITE_RULES, zone=wanted.zone)

        async def put(tx: Tx) -> pb.PutRuleResponse:
            check_rule(wanted, known_indicator=await store.is_measured(tx.conn, wanted.indicator))
            before = await store.lock_rule(tx.conn, wanted.name)
            rule = wanted
            if before is not None:
                caller.require(WRITE_RULES, zone=before.zone)
                rule = replace(
                    wanted,
                    revision=before.revision,
                    true_alarms=before.true_alarms,
                    false_alarms=before.false_alarms,
                )
            changed = before != rule
            if changed:
                await store.put_rule(tx.conn, rule)
            tx.audit(WRITE_RULES, rule.name, changed=changed)
            return pb.PutRuleResponse(rule=wire.rule_message(rule), changed=changed)

        return await self._transactions.mutate(request, pb.PutRuleResponse, put)

    async def ListRules(self, request: pb.ListRulesRequest, _: Context) -> pb.ListRulesResponse:
        of, size = "rules", paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=of)
        visible = current_caller().visibility(READ_RULES)
        rows = await self._transactions.read(
            lambda conn: store.list_rules(conn, visible, after=after[0] if after else None, limit=size + 1)
        )
        page, token = paging.page(rows, size, lambda rule: (rule.name,), of=of)
        return pb.ListRulesResponse(rules=map(wire.rule_message, page), next_page_token=token)
