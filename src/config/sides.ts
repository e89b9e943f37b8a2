/**
 * Whose configuration a file is: a site's, or that of the relay beside the primary. Any setting that only a relay has
 * makes it a relay's; most settings are a site's alone, and some are both's.
 */
import { SETTING_PATHS, type SettingPath } from './settings.ts'
import type { Source } from './source.ts'

export type Side = 'site' | 'relay'

/** Sections end in a dot. */
const OF_A_RELAY = [
  'relay.addr',
  'relay.tls.',
  'relay.instances',
  'relay.canary.',
  'relay.queuesize',
  'relay.retention.',
  'relay.sites',
]
const OF_BOTH = [
  'version',
  'site.name',
  'log.level',
  'http.draintimeout',
  'http.admin.',
  'http.events.addr',
  'upstream.',
  'storage.filesystem.rootdirectory',
  'replication.notifications.',
  // Says that the primary is open to all.
  'auth.none.',
]

export function sideOf(source: Source): Side {
  return relaySettingsIn(source).length > 0 ? 'relay' : 'site'
}

/** Those given that only a relay has, in the order of the settings. */
export function relaySettingsIn({ given }: Source): SettingPath[] {
  return SETTING_PATHS.filter((path) => given.has(path) && isNamed(OF_A_RELAY, path))
}

/** Whether the setting means anything in a file of that side. */
export function belongsTo(side: Side, path: SettingPath): boolean {
  if (isNamed(OF_BOTH, path)) return true
  return isNamed(OF_A_RELAY, path) === (side === 'relay')
}

function isNamed(names: readonly string[], path: SettingPath): boolean {
  return names.some((name) => (name.endsWith('.') ? path.startsWith(name) : path === name))
}
