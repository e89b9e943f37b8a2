/** What a site's store holds, seen from the disk alone: what is published must be whole, and refusals leave no trace. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { expect } from 'vitest'
import { algorithmOf, createDigester, type Digest, parseDigest } from '../../src/oci/digest.ts'
import { createStorePaths } from '../../src/store/paths.ts'

/** Every file below a folder, sorted; none where there is no such folder. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries.flatMap((entry) => (entry.isDirectory() ? [] : [join(entry.parentPath, entry.name)])).sort()
}

/** Path, size and content of every file under a root: equal trees mean that nothing was touched. */
export async function treeOf(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const lines = entries.map(async (entry) => {
    const path = join(entry.parentPath, entry.name)
    if (entry.isDirectory()) return `${relative(root, path)}/`
    const hash = createHash('sha256')
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
    return `${relative(root, path)} ${hash.digest('hex')}`
  })
  return (await Promise.all(lines)).sort()
}

/** The files of fills and captures that are under way or can be resumed. */
export async function spoolsOf(root: string): Promise<string[]> {
  return await filesBelow(createStorePaths(root).spools)
}

export async function isPublished(root: string, digest: Digest): Promise<boolean> {
  return await stat(createStorePaths(root).blob(digest)).then(
    () => true,
    () => false,
  )
}

/**
 * Law 1: every blob's file matches its name, and every link leads to a blob; also while the site works, which publishes
 * a blob before its links. Resolves with how many blobs there are.
 */
export async function expectSoundStore(root: string): Promise<number> {
  const paths = createStorePaths(root)
  const targets = new Map<string, string>()
  for (const path of await filesBelow(paths.repositories)) {
    const digest = parseDigest(await readFile(path, 'utf8'))
    if (!digest) throw new Error(`${path} holds no digest`)
    targets.set(path, paths.blob(digest))
  }
  const blobs = new Set(await filesBelow(paths.blobs))
  for (const [path, target] of targets) expect(blobs, path).toContain(target)
  for (const path of blobs) {
    const [algorithm, , hex, file] = path.split('/').slice(-4)
    const digest = parseDigest(`${algorithm}:${hex}`)
    if (!digest || file !== 'data') throw new Error(`${path} is no place for a blob`)
    const digester = createDigester(algorithmOf(digest))
    for await (const chunk of createReadStream(path)) digester.update(chunk as Buffer)
    expect(digester.digest(), path).toBe(digest)
  }
  return blobs.size
}
