/**
 * Where settings come from: the YAML file and, over it, the environment. Nothing is judged here but whether a name is
 * that of a setting; each value is kept with the place it stands at.
 */
import { isAlias, isCollection, isMap, isScalar, LineCounter, parse, parseDocument } from 'yaml'
import { FileFault, readText } from './files.ts'
import { nearestName } from './nearest-name.ts'
import {
  isSettingPath,
  SECTIONS,
  SETTING_PATHS,
  type SettingPath,
  sectionsAbove,
  settingAt,
} from './settings.ts'
import { belongsTo, sideOf } from './sides.ts'

export interface Fault {
  /** The setting, section or file it is about. */
  readonly path: string
  readonly message: string
  /** Where it was written, if it was. */
  readonly origin?: string | undefined
}

export interface Given {
  /** As the file or the environment has it. */
  readonly value: unknown
  /** `/etc/geo-registry/config.yml:12` or the name of a variable. */
  readonly origin: string
}

export interface Source {
  readonly given: Map<SettingPath, Given>
  /** Sections that are there, if only as an empty one (`auth: { none: {} }`), and where. */
  readonly sections: Map<string, string>
  readonly faults: Fault[]
  /** Whether the file was read as a whole: what is missing can be told only then. */
  complete: boolean
}

/** One setting as it takes effect, for `config print`. */
export interface Effective {
  readonly path: SettingPath
  /** In the notation of the file. */
  readonly value: unknown
  /** `<file>:<line>`, the name of a variable, or `default`. */
  readonly origin: string
}

export type Environment = Readonly<Record<string, string | undefined>>

const PREFIX = 'GEO_REGISTRY__'

/** `file` undefined: the environment only. */
export function readSource(file: string | undefined, environment: Environment): Source {
  const source: Source = { given: new Map(), sections: new Map(), faults: [], complete: true }
  if (file !== undefined) readFile(file, source)
  readEnvironment(environment, source)
  return source
}

/** The variable that sets `path`: `storage.minfree` is `GEO_REGISTRY__STORAGE__MINFREE`. */
export function variableOf(path: string): string {
  return PREFIX + path.toUpperCase().replaceAll('.', '__')
}

function readFile(file: string, source: Source): void {
  const lines = new LineCounter()
  const place = (offset: number | undefined) => `${file}:${lines.linePos(offset ?? 0).line}`
  let text: string
  try {
    text = readText(file)
  } catch (error) {
    if (!(error instanceof FileFault)) throw error
    source.faults.push({ path: 'configuration', message: error.message })
    source.complete = false
    return
  }
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  for (const { message, pos } of [...document.errors, ...document.warnings]) {
    source.faults.push({ path: 'configuration', message: `not YAML: ${message}`, origin: place(pos[0]) })
    source.complete = false
  }

  const visit = (section: string, written: unknown, origin: string) => {
    const node = isAlias(written) ? written.resolve(document) : written
    if (node == null || (isScalar(node) && node.value === null)) return
    if (!isMap(node)) {
      source.faults.push({
        path: section || 'configuration',
        message: `expected a section with ${keysOf(section).join(', ')}`,
        origin,
      })
      return
    }
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : String(key)
      const path = pathOf(section, name)
      const at = place(isScalar(key) || isCollection(key) ? key.range?.[0] : undefined)
      if (isSettingPath(path) && !name.includes('.')) give(source, path, { value: plain(value), origin: at })
      else if (SECTIONS.has(path)) {
        source.sections.set(path, at)
        visit(path, value, at)
      } else source.faults.push(unknownSetting(section, name, at))
    }
  }
  const plain = (value: unknown): unknown => {
    const node = isAlias(value) ? value.resolve(document) : value
    return isScalar(node) || isCollection(node) ? node.toJS(document) : null
  }
  if (source.complete) visit('', document.contents, `${file}:1`)
}

function readEnvironment(environment: Environment, source: Source): void {
  const settings = new Map(SETTING_PATHS.map((path) => [variableOf(path), path]))
  for (const [name, text] of Object.entries(environment)) {
    if (text === undefined || !name.startsWith(PREFIX)) continue
    const path = settings.get(name)
    if (path !== undefined) {
      give(source, path, { value: settingAt(path).yaml ? fromYaml(text) : text, origin: name })
    } else {
      const near = nearestName(name, settings.keys())
      source.faults.push({
        path: name,
        message: `no setting has this variable${near ? `; did you mean ${near}?` : ''}`,
      })
    }
  }
}

function give(source: Source, path: SettingPath, given: Given): void {
  source.given.set(path, given)
  for (const section of sectionsAbove(path)) source.sections.set(section, given.origin)
}

/** Text that is no YAML stays text, and is then reported as not what the setting expects. */
function fromYaml(text: string): unknown {
  try {
    return parse(text)
  } catch {
    return text
  }
}

function keysOf(section: string): string[] {
  const depth = section === '' ? 0 : section.split('.').length
  const below = SETTING_PATHS.filter((path) => section === '' || path.startsWith(`${section}.`))
  return [...new Set(below.map((path) => path.split('.')[depth] ?? ''))]
}

function unknownSetting(section: string, name: string, origin: string): Fault {
  const path = pathOf(section, name)
  return { path, message: `no such setting; ${suggestion(section, name)}`, origin }
}

function suggestion(section: string, name: string): string {
  if (name.includes('.')) return 'write it as sections, one below the other'
  // The very name in another section was meant sooner than one that is only near.
  const [elsewhere, another] = SETTING_PATHS.filter((path) => path.endsWith(`.${name}`))
  if (elsewhere !== undefined && another === undefined) return `did you mean ${elsewhere}?`
  const near = nearestName(name.toLowerCase(), keysOf(section))
  if (near !== undefined) return `did you mean ${pathOf(section, near)}?`
  return `expected one of ${keysOf(section).join(', ')}`
}

function pathOf(section: string, name: string): string {
  return section === '' ? name : `${section}.${name}`
}

/** What takes effect: what was given, and the defaults of the rest. */
export function effective(source: Source): Effective[] {
  const side = sideOf(source)
  return SETTING_PATHS.flatMap((path) => {
    const given = source.given.get(path)
    if (given) return [{ path, ...given }]
    if (!belongsTo(side, path)) return []
    const value = settingAt(path).default
    // The other one of auth.token and auth.none does not take effect.
    if (value === undefined || (path.startsWith('auth.none.') && !source.sections.has('auth.none'))) return []
    return [{ path, value, origin: 'default' }]
  })
}
