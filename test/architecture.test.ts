/** DESIGN's table of parts as data, held against every import of the sources. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { describe, expect, it } from 'vitest'

const ROOT = join(import.meta.dirname, '..')
const LEAVES = [
  'src/log.ts',
  'src/metrics.ts',
  'src/lifecycle.ts',
  'src/single-flight.ts',
  'src/http-listener.ts',
  'src/gathered-bytes.ts',
  'src/redis-connection.ts',
]

/** For each area: the areas it may import besides itself and the leaves, and the npm packages it may use. */
const ALLOWED: Record<string, { areas: string[]; packages: string[] }> = {
  'src/oci': { areas: [], packages: [] },
  'src/config': { areas: ['src/oci'], packages: [] },
  'src/auth': { areas: ['src/oci'], packages: ['jose'] },
  'src/upstream': { areas: ['src/oci', 'src/auth'], packages: ['undici'] },
  'src/store': { areas: ['src/oci'], packages: [] },
  'src/fill': { areas: ['src/oci', 'src/upstream', 'src/store'], packages: [] },
  'src/coordination': { areas: ['src/oci', 'src/store', 'src/fill'], packages: ['ioredis'] },
  'src/freshness': { areas: ['src/oci'], packages: ['ioredis'] },
  'src/bus': { areas: ['src/oci'], packages: ['ioredis'] },
  'src/commands': { areas: ['src', 'src/oci', 'src/status'], packages: [] },
  'src/queue': { areas: [], packages: ['bullmq', 'ioredis'] },
  'src/tracking': { areas: ['src/oci'], packages: ['kysely', 'pg'] },
  'src/status': { areas: ['src/oci', 'src/tracking'], packages: ['hono', '@hono/node-server'] },
  replicator: {
    areas: ['src/oci', 'src/upstream', 'src/store', 'src/fill', 'src/freshness', 'src/queue', 'src/tracking'],
    packages: ['hono', '@hono/node-server', 'p-retry'],
  },
  proxy: {
    areas: ['src/oci', 'src/auth', 'src/upstream', 'src/store', 'src/fill', 'src/freshness'],
    packages: [],
  },
}
/** The leaves: packages anywhere, nothing of ours. */
const ANYWHERE = ['zod', 'yaml', 'pino', 'prom-client', 'commander', 'lru-cache']

const IMPORT =
  /^(?:import|export)\s(?:[\w$*{},\s]*?\sfrom\s)?['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)/gm

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)).split(sep).join('/'))
}

function areaOf(file: string): string {
  if (!file.startsWith('src/')) return file.split('/')[0] ?? ''
  return file.split('/').length > 2 ? file.split('/').slice(0, 2).join('/') : 'src'
}

function violations(file: string, text: string): string[] {
  const area = areaOf(file)
  if (area === 'src' && !LEAVES.includes(file)) return [] // main.ts and config.ts wire everything.
  const rule = ALLOWED[area] ?? { areas: [], packages: [] }
  return [...text.matchAll(IMPORT)].flatMap((match) => {
    const specifier = match[1] ?? match[2] ?? ''
    if (specifier.startsWith('node:')) return []
    if (!specifier.startsWith('.')) {
      const name = specifier
        .split('/')
        .slice(0, specifier.startsWith('@') ? 2 : 1)
        .join('/')
      return [...ANYWHERE, ...rule.packages].includes(name) ? [] : [`${file} imports the package ${name}`]
    }
    const target = join(dirname(file), specifier).split(sep).join('/')
    if (LEAVES.includes(target) || areaOf(target) === area) return []
    return rule.areas.includes(areaOf(target)) ? [] : [`${file} imports ${target}`]
  })
}

describe('architecture', () => {
  const files = [...sources('src'), ...sources('proxy'), ...sources('replicator')]

  it('lets every part import only what DESIGN allows it', () => {
    expect(files.flatMap((file) => violations(file, readFileSync(join(ROOT, file), 'utf8')))).toEqual([])
  })

  it('keeps every file readable in one sitting', () => {
    const long = [...files, ...sources('test'), ...sources('demo')].filter(
      (file) => readFileSync(join(ROOT, file), 'utf8').split('\n').length > 400,
    )
    expect(long).toEqual([])
  })

  it('notices a forbidden import however it is written', () => {
    const planted = [
      "import {\n  a,\n} from '../store/paths.ts'",
      "export { b } from '../../proxy/app.ts'",
      "import 'undici'",
      "const c = await import('pg')",
    ]
    expect(planted.map((text) => violations('src/oci/planted.ts', text).length)).toEqual([1, 1, 1, 1])
  })
})
