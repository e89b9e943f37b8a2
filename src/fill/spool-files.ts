/**
 * What lies in the folder of spools, by name: `<alg>-<hex>.data` and `.json` of a site of one process, with
 * `.<16 hex digits>` behind the digest where several processes share the folder.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { ignoring, isAbsent } from '../store/durable-files.ts'
import { SEGMENTS } from './fill-state.ts'
import { removeSpool, type SpoolMap } from './spool.ts'

/** Longer than any pull that is still tried again, short enough that given-up content does not fill the disk. */
const MAX_AGE_MS = 24 * 60 * 60 * 1000

const FILE_NAME = /^((sha256|sha512)-([0-9a-f]+)(?:\.[0-9a-f]{16})?)\.(data|json|json\.tmp|kept\.json)$/

const MAP = z.object({
  version: z.literal(1),
  digest: z.string(),
  sizeBytes: z.int().nonnegative(),
  segments: SEGMENTS,
  updatedAt: z.iso.datetime(),
})

/** The files of one spool. */
export interface SpoolFiles {
  readonly digest: Digest
  /** Without what follows the last part: what all its files have in common. */
  readonly name: string
  readonly endings: ReadonlySet<string>
}

export function spoolName(digest: Digest): string {
  return digest.replace(':', '-')
}

/** Where the files of a spool of several processes lie. */
export function sharedPaths(
  folder: string,
  name: string,
): { dataPath: string; mapPath: string; keptPath: string } {
  const path = join(folder, name)
  return { dataPath: `${path}.data`, mapPath: `${path}.json`, keptPath: `${path}.kept.json` }
}

export async function listSpools(folder: string): Promise<SpoolFiles[]> {
  const found = new Map<string, { digest: Digest; name: string; endings: Set<string> }>()
  for (const file of (await readdir(folder).catch(ignoring('ENOENT'))) ?? []) {
    const [, name = '', algorithm, hex, ending = ''] = FILE_NAME.exec(file) ?? []
    const digest = parseDigest(`${algorithm}:${hex}`)
    if (!digest) continue
    const files = found.get(name) ?? { digest, name, endings: new Set() }
    found.set(name, files)
    files.endings.add(ending)
  }
  return [...found.values()]
}

/** The map of a spool that can be resumed. */
export async function readSpoolMap(
  { dataPath, mapPath }: { readonly dataPath: string; readonly mapPath: string },
  digest: Digest,
): Promise<SpoolMap | undefined> {
  let text: string
  let dataBytes: number
  try {
    text = await readFile(mapPath, 'utf8')
    dataBytes = (await stat(dataPath)).size
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
  const map = parseMap(text)
  if (!map || map.digest !== digest) return undefined
  if (Date.now() - Date.parse(map.updatedAt) > MAX_AGE_MS) return undefined
  const end = map.segments.at(-1)?.[1] ?? 0
  return end <= Math.min(dataBytes, map.sizeBytes) ? map : undefined
}

/**
 * Removes what nobody can resume any more, except what is in use here, or may be in another process: `isTaken` is asked
 * after the folder was read, so that what a process begins meanwhile is not among what is removed. It says undefined
 * when nobody knows, which ends the sweep.
 */
export async function sweepSpools(
  folder: string,
  isInUse: (digest: Digest) => boolean,
  isTaken: (digest: Digest) => Promise<boolean | undefined>,
): Promise<void> {
  for (const { digest, name } of await listSpools(folder)) {
    const paths = sharedPaths(folder, name)
    if (isInUse(digest) || (await readSpoolMap(paths, digest))) continue
    if (await readSpoolMap({ ...paths, mapPath: paths.keptPath }, digest)) continue
    const taken = await isTaken(digest)
    if (taken === undefined) return
    // Asked again: a flight may have begun while the map was read.
    if (!taken && !isInUse(digest)) await removeSpool(paths)
  }
}

function parseMap(text: string): SpoolMap | undefined {
  try {
    return MAP.safeParse(JSON.parse(text)).data
  } catch {
    return undefined // Not JSON: cut short by a crash, so the spool cannot be resumed.
  }
}
