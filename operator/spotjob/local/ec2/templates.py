"""Launch templates. Not validated when they are created, as with EC2: mistakes surface at launch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from spotjob.local.ec2.errors import ApiError, missing
from spotjob.local.ec2.filters import TEMPLATE_FILTERS, page, select
from spotjob.local.ec2.records import Template, tags_for
from spotjob.local.ec2.world import World

_NAME = re.compile(r"[a-zA-Z0-9().\-/_]{3,128}")
_VERSIONS = ("$Latest", "$Default", "1")


def create(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """CreateLaunchTemplate."""
    name = _checked_name(world, request)
    if "LaunchTemplateData" not in request:
        raise missing("LaunchTemplateData")
    template = Template(
        id=world.new_id("lt"),
        name=name,
        data=request["LaunchTemplateData"],
        created=world.now,
        tags=tags_for(request.get("TagSpecifications", ()), "launch-template"),
    )
    world.templates[template.id] = template
    return {"LaunchTemplate": template.describe()}


def _checked_name(world: World, request: Mapping[str, Any]) -> str:
    name = str(request.get("LaunchTemplateName", ""))
    if not _NAME.fullmatch(name):
        raise ApiError("InvalidLaunchTemplateName.MalformedException", f"Invalid launch template name '{name}'.")
    if any(template.name == name for template in world.templates.values()):
        raise ApiError("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
    return name


def describe(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """DescribeLaunchTemplates: by id, by name or by filter. Ids and names that do not exist are errors."""
    found = _named(world, request) if _names_any(request) else world.templates.values()
    chosen = sorted(select(found, TEMPLATE_FILTERS, request), key=lambda template: template.name)
    cut, token = page(chosen, request, lambda template: template.name, (1, 200))
    answer: dict[str, Any] = {"LaunchTemplates": [template.describe() for template in cut]}
    return answer | ({"NextToken": token} if token else {})


def _names_any(request: Mapping[str, Any]) -> bool:
    return bool(request.get("LaunchTemplateIds") or request.get("LaunchTemplateNames"))


def _named(world: World, request: Mapping[str, Any]) -> Iterable[Template]:
    ids = [{"LaunchTemplateId": i} for i in request.get("LaunchTemplateIds", ())]
    names = [{"LaunchTemplateName": n} for n in request.get("LaunchTemplateNames", ())]
    return {template.id: template for template in (find(world, one) for one in ids + names)}.values()


def delete(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """DeleteLaunchTemplate."""
    template = find(world, request)
    del world.templates[template.id]
    return {"LaunchTemplate": template.describe()}


def find(world: World, specification: Mapping[str, Any]) -> Template:
    """The template that LaunchTemplateId or LaunchTemplateName names."""
    if "LaunchTemplateId" in specification:
        return _by_id(world, specification["LaunchTemplateId"])
    if "LaunchTemplateName" not in specification:
        raise missing("LaunchTemplateId or LaunchTemplateName")
    return _by_name(world, specification["LaunchTemplateName"])


def _by_id(world: World, template_id: str) -> Template:
    if template_id not in world.templates:
        message = f"The specified launch template, with template ID {template_id}, does not exist."
        raise ApiError("InvalidLaunchTemplateId.NotFound", message)
    return world.templates[template_id]


def _by_name(world: World, name: str) -> Template:
    for template in world.templates.values():
        if template.name == name:
            return template
    message = f"The specified launch template, with template name {name}, does not exist."
    raise ApiError("InvalidLaunchTemplateName.NotFoundException", message)


def find_version(world: World, specification: Mapping[str, Any]) -> Template:
    """As `find`, with the mandatory Version."""
    template = find(world, specification)
    if "Version" not in specification:
        raise missing("LaunchTemplateSpecification.Version")
    if specification["Version"] not in _VERSIONS:
        raise ApiError("InvalidLaunchTemplateId.VersionNotFound", f"Version {specification['Version']} does not exist")
    return template
