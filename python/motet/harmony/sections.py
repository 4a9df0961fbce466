"""The text of system and developer messages."""

from __future__ import annotations

from collections.abc import Iterable

from motet.harmony.messages import (
    FUNCTIONS,
    Content,
    DeveloperContent,
    FunctionTool,
    ResponseFormat,
    SystemContent,
    ToolNamespace,
)
from motet.harmony.schema import compact_json, parameters_type


def system_text(content: SystemContent, *, has_functions: bool) -> str:
    """The system message; `has_functions`: whether a developer message declares function tools."""
    about = [content.identity] if content.identity is not None else []
    if content.knowledge_cutoff is not None:
        about.append(f"Knowledge cutoff: {content.knowledge_cutoff}")
    if content.date is not None:
        about.append(f"Current date: {content.date}")
    sections = ["\n".join(about)] if about else []
    if content.effort is not None:
        sections.append(f"Reasoning: {content.effort}")
    if content.tools:
        sections.append(_tools_text(content.tools))
    if content.channels:
        line = f"# Valid channels: {', '.join(content.channels)}."
        if content.channel_required:
            line += " Channel must be included for every message."
        if has_functions:
            line += "\nCalls to these tools must go to the commentary channel: 'functions'."
        sections.append(line)
    return "\n\n".join(sections)


def developer_text(content: DeveloperContent) -> str:
    """The developer message: instructions, then tools, then response formats; empty without any."""
    sections = []
    if content.instructions is not None:
        sections.append(f"# Instructions\n\n{content.instructions}")
    if content.tools:
        sections.append(_tools_text(content.tools))
    if content.response_formats:
        formats = "\n\n".join(_format_text(entry) for entry in content.response_formats)
        sections.append(f"# Response Formats\n\n{formats}")
    return "\n\n".join(sections)


def content_text(content: Content, *, has_functions: bool) -> str:
    """The text of any part of a message's content."""
    if isinstance(content, SystemContent):
        return system_text(content, has_functions=has_functions)
    if isinstance(content, DeveloperContent):
        return developer_text(content)
    return content


def declares_functions(parts: Iterable[Content]) -> bool:
    """Whether a message declares function tools."""
    return any(
        space.name == FUNCTIONS and space.tools
        for part in parts
        if isinstance(part, DeveloperContent)
        for space in part.tools
    )


def _tools_text(namespaces: tuple[ToolNamespace, ...]) -> str:
    ordered = sorted(namespaces, key=lambda space: space.name)
    return "# Tools\n\n" + "\n\n".join(_namespace_text(space) for space in ordered)


def _namespace_text(space: ToolNamespace) -> str:
    head = f"## {space.name}\n"
    if not space.tools:
        lines = _lines(space.description or "")
        return head + "\n" + "\n".join(lines) if lines else head
    comment = _comment(space.description or "")
    functions = "".join(_function_text(tool) for tool in space.tools)
    return f"{head}\n{comment}namespace {space.name} {{\n\n{functions}}} // namespace {space.name}"


def _function_text(tool: FunctionTool) -> str:
    argument = "" if tool.parameters is None else f"_: {parameters_type(tool.parameters)}"
    return f"{_comment(tool.description)}type {tool.name} = ({argument}) => any;\n\n"


def _format_text(entry: ResponseFormat) -> str:
    schema = compact_json(entry.schema, "response_format")
    return f"## {entry.name}\n\n{_comment(entry.description or '')}{schema}"


def _comment(text: str) -> str:
    """Each line of a text as a `//` comment line."""
    return "".join(f"// {line}\n" for line in _lines(text))


def _lines(text: str) -> list[str]:
    """The lines of a text; a last line break ends a line and starts none."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines
