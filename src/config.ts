/**
 * The configuration: the file and the environment, judged as a whole and cut into one frozen slice per part. The only
 * place that reads the process's environment. Nothing starts on a faulty configuration.
 */
import { existsSync } from 'node:fs'
import { readProxies } from './config/proxies.ts'
import { contradictions } from './config/rules.ts'
import { SETTING_PATHS, type SettingPath, settingAt, type Values } from './config/settings.ts'
import { type Side, sideOf } from './config/sides.ts'
import { type Config, slice } from './config/slices.ts'
import {
  type Effective,
  type Environment,
  effective,
  type Fault,
  readSource,
  type Source,
} from './config/source.ts'

export {
  NOTIFICATION_FORMS,
  type NotificationForm,
  NotificationsFault,
  renderNotifications,
} from './config/notifications.ts'
export type { Side } from './config/sides.ts'
export type * from './config/slices.ts'
export type { Effective, Environment, Fault } from './config/source.ts'

/** Read when no other is named, and needed by nobody whose environment says it all. */
export const DEFAULT_CONFIG_FILE = '/etc/geo-registry/config.yml'

export interface LoadedConfig {
  readonly config: Config
  readonly effective: readonly Effective[]
}

/** Everything that is wrong, found in one go. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly faults: readonly Fault[]

  constructor(faults: readonly Fault[]) {
    super(faults.map(formatFault).join('\n'))
    this.faults = faults
  }
}

/** `http.addr: expected …, got "x" (config.yml:4)`. */
export function formatFault(fault: Fault): string {
  return `${fault.path}: ${fault.message}${fault.origin === undefined ? '' : ` (${fault.origin})`}`
}

export interface LoadOptions {
  /** Must be there. Default `/etc/geo-registry/config.yml`, which need not be. */
  readonly file?: string | undefined
  /** Default: the process's own. */
  readonly environment?: Environment
  /** Whose configuration it has to be; default: whosever it is. */
  readonly side?: Side | undefined
}

/** Throws `ConfigError` with every fault. */
export function loadConfig(options: LoadOptions = {}): LoadedConfig {
  const environment = options.environment ?? process.env
  const file = options.file ?? (existsSync(DEFAULT_CONFIG_FILE) ? DEFAULT_CONFIG_FILE : undefined)
  const source = readSource(file, environment)
  const { values, faults } = judge(source)
  const { proxies, faults: proxyFaults } = readProxies(environment)
  const all = [...source.faults, ...faults, ...contradictions(source, values, options.side), ...proxyFaults]
  if (all.length > 0) throw new ConfigError(all)
  // Every required setting is there and every default was valid, or there had been a fault.
  const callers = source.sections.has('auth.none') ? 'none' : 'token'
  const kind = sideOf(source) === 'relay' ? 'relay' : callers
  return { config: slice(values as Values, kind, proxies), effective: effective(source) }
}

/** Each setting by itself. */
function judge(source: Source): { values: Partial<Values>; faults: Fault[] } {
  const values: Partial<Record<SettingPath, unknown>> = {}
  const faults: Fault[] = []
  for (const path of SETTING_PATHS) {
    const setting = settingAt(path)
    const given = source.given.get(path)
    const raw = given ? given.value : setting.default
    if (raw === undefined) continue
    const result = setting.type.safeParse(raw)
    if (result.success) values[path] = result.data
    const wrong = new Map(result.error?.issues.map((issue) => [issue.path.join(), issue.path]))
    for (const indexes of wrong.values()) {
      const at = indexes.map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('')
      const wrongValue = indexes.reduce(member, raw)
      const expected = (indexes.length > 0 && setting.expectedEach) || setting.expected
      faults.push({
        path: path + at,
        message: `expected ${expected}, got ${setting.secret ? kindOf(wrongValue) : describe(wrongValue)}`,
        origin: given?.origin,
      })
    }
  }
  return { values: values as Partial<Values>, faults }
}

function member(value: unknown, key: PropertyKey): unknown {
  if (typeof value !== 'object' || value === null) return value
  return (value as Readonly<Record<PropertyKey, unknown>>)[key]
}

function describe(value: unknown): string {
  const kind = kindOf(value)
  // A URL that was refused for the password in it is not shown with it.
  if (kind === 'text') return JSON.stringify(value).replace(/\/\/[^/]*@/, '//********@')
  return kind === 'a number' ? `the number ${String(value)}` : kind
}

function kindOf(value: unknown): string {
  if (value === null || value === '') return 'nothing'
  if (typeof value === 'object') return Array.isArray(value) ? 'a list' : 'a section'
  if (typeof value === 'string') return 'text'
  return typeof value === 'boolean' ? String(value) : 'a number'
}
