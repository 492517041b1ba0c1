// Command-line flags from the configuration's schema: one source for names, types, defaults and help.
import type { Command } from "commander"
import { parse as parseYaml } from "yaml"
import { readText } from "../data/files.ts"
import { UserError } from "../errors.ts"
import { configFields, flagOf, type NameKey } from "../train/config.ts"

interface Definition {
  type: string
  innerType?: { def: Definition }
  element?: { def: Definition }
  defaultValue?: unknown
  /** Of an enum. */
  entries?: Record<string, string>
}

const definitionOf = (key: string) =>
  (configFields as unknown as Record<string, { def: Definition; description?: string }>)[key]

/** Adds one flag per configuration key: `--learning-rate <number>`. */
export function addConfigOptions(command: Command, { except = [] as readonly string[] } = {}): void {
  for (const key of Object.keys(configFields)) {
    if (except.includes(key)) continue
    const field = definitionOf(key)
    const initial = field?.def.type === "default" ? field.def.defaultValue : undefined
    const shown =
      initial === undefined || initial === null
        ? ""
        : ` (default: ${Array.isArray(initial) ? initial.join(",") : initial})`
    const { entries } = unwrap(key)
    const choices = entries ? `: ${Object.values(entries).join(", ")}` : ""
    command.option(`${flagOf(key)} <${placeholder(key)}>`, `${field?.description ?? ""}${choices}${shown}`, (text) =>
      parseFlag(key, text),
    )
  }
}

/** The configuration values among a command's parsed options. */
export function configOptions(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options)
      .filter(([key]) => Object.hasOwn(configFields, key))
      .map(([key, value]) => [key, isNone(key, value) ? null : value]), // not in parseFlag: of null commander makes ""
  )
}

/** How to name an option: as the flag that was typed, or as the key in the file it stands in. */
export const nameOption =
  (flags: Readonly<Record<string, unknown>>, file?: string): NameKey =>
  (key) =>
    file === undefined || flags[key] !== undefined ? flagOf(key) : `"${key}" in ${file}`

/** What a --config file says. @throws UserError when it cannot be read, or holds something else than keys */
export function readConfigFile(path: string): Record<string, unknown> {
  const text = readText(path, "configuration")
  let value: unknown
  try {
    value = parseYaml(text) // JSON is YAML
  } catch (cause) {
    throw new UserError(`Cannot read configuration ${path}: ${(cause as Error).message.split("\n")[0]}.`, { cause })
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError(`The configuration ${path} must hold keys and values, such as "model: unet".`)
  }
  return value as Record<string, unknown>
}

/** The flags, and no lengths of the file where they have one, whatever its kind. */
export function withoutFileLengths(
  given: Record<string, unknown>,
  file: Record<string, unknown>,
): Record<string, unknown> {
  const lengths = ["steps", "epochs", "budget"]
  if (!lengths.some((key) => given[key] !== undefined)) return given
  return { ...Object.fromEntries(lengths.filter((key) => key in file).map((key) => [key, null])), ...given }
}

// What cannot be read as the field's type is passed on as text: the schema then says what it expected.
function parseFlag(key: string, text: string): unknown {
  if (isNone(key, text)) return text
  if (key === "budget") return text // a duration
  const { type, element } = unwrap(key)
  if (type === "number") return toNumber(text)
  if (type === "boolean") return { true: true, false: false }[text] ?? text
  if (type === "literal") return toNumber(text) // all of them numbers
  if (type === "array")
    return text.split(",").map((part) => (element?.def.type === "number" ? toNumber(part) : part.trim()))
  if (type === "union") return text.includes(",") ? text.split(",").map(toNumber) : text
  if (type === "tuple") return text.includes(",") ? text.split(",").map(toNumber) : toNumber(text)
  return text
}

const toNumber = (text: string): unknown => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text)

/** "none" takes back what a file or a protocol says of an option that can be left out. */
function isNone(key: string, value: unknown): boolean {
  const isNullable = (definition?: Definition) => definition?.type === "nullable"
  const definition = definitionOf(key)?.def
  return value === "none" && (isNullable(definition) || isNullable(definition?.innerType?.def))
}

function unwrap(key: string): Definition {
  let definition = definitionOf(key)?.def as Definition
  while (definition.innerType) definition = definition.innerType.def
  return definition
}

function placeholder(key: string): string {
  if (key === "budget") return "duration"
  const { type } = unwrap(key)
  return (
    {
      number: "number",
      array: "a,b,...",
      tuple: "a,b",
      enum: "name",
      union: "name|a,b,...",
      boolean: "true|false",
      literal: "number",
    }[type] ?? "text"
  )
}
