/** A folder to adopt, and what a store must look like afterwards. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { algorithmOf, type Digest, digestOf } from '../../src/oci/digest.ts'
import { createStorePaths } from '../../src/store/paths.ts'
import { all, type StoreFixture } from '../store/store-fixture.ts'

/** Puts a blob into a folder as Distribution does, under its digest or the one given. */
export async function plant(
  root: string,
  content: string,
  digest: Digest = digestOf(Buffer.from(content)),
): Promise<Digest> {
  const path = createStorePaths(root).blob(digest)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
  return digest
}

/** The digests of what is published. Throws when one is not what its digest says. */
export async function soundDigests({ store }: StoreFixture): Promise<Digest[]> {
  const digests = await all(store.holdings.blobs(undefined))
  for (const digest of digests) {
    const actual = digestOf(await readFile(store.paths.blob(digest)), algorithmOf(digest))
    if (actual !== digest) throw new Error(`${digest} holds ${actual}`)
  }
  return digests
}
