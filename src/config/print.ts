/** The effective configuration as a file that could be read again, each line with the place its value comes from. */
import { stringify } from 'yaml'
import { type Proxies, withoutPassword } from './proxies.ts'
import { sectionsAbove, settingAt } from './settings.ts'
import type { Effective } from './source.ts'

const MASK = '********'

export function printConfig(effective: readonly Effective[], proxies: Proxies): string {
  const lines: { text: string; origin?: string }[] = []
  const opened = new Set<string>()
  for (const { path, value, origin } of effective) {
    const sections = sectionsAbove(path)
    for (const [depth, section] of sections.entries()) {
      if (opened.has(section)) continue
      opened.add(section)
      lines.push({ text: `${'  '.repeat(depth)}${lastKey(section)}:` })
    }
    const shown = settingAt(path).secret ? MASK : value
    lines.push({ text: `${'  '.repeat(sections.length)}${lastKey(path)}: ${inFlow(shown)}`, origin })
  }
  const width = Math.min(60, Math.max(...lines.map(({ text }) => text.length)))
  const body = lines.map(({ text, origin }) => (origin ? `${text.padEnd(width)}  # ${origin}` : text))
  const { httpProxy, httpsProxy, noProxy } = proxies
  const comments = [
    ...(httpProxy ? [`# HTTP_PROXY: ${withoutPassword(httpProxy)}`] : []),
    ...(httpsProxy ? [`# HTTPS_PROXY: ${withoutPassword(httpsProxy)}`] : []),
    ...(noProxy && (httpProxy || httpsProxy) ? [`# NO_PROXY: ${noProxy}`] : []),
  ]
  return `${[...body, ...comments].join('\n')}\n`
}

function lastKey(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1)
}

/** A value on one line; text that YAML would read as something else comes in quotes. */
function inFlow(value: unknown): string {
  return stringify(value, { collectionStyle: 'flow', lineWidth: 0 }).trimEnd()
}
