/** OCI layouts that clients write and read, every file of them hashed by us. */
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { digestOf } from '../../src/oci/digest.ts'
import type { Image } from '../support/images.ts'
import { writeOciLayout } from '../support/oci-layout.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import type { Held } from './tool.ts'

/** Throws when a file is not what its name says. */
export async function readLayout(folder: string): Promise<Held> {
  const index: { manifests: { digest: string }[] } = JSON.parse(
    await readFile(join(folder, 'index.json'), 'utf8'),
  )
  const blobs = join(folder, 'blobs/sha256')
  const files: string[] = []
  for (const name of await readdir(blobs)) {
    const digest = digestOf(await readFile(join(blobs, name)))
    if (digest !== `sha256:${name}`) throw new Error(`the client wrote ${digest} as sha256:${name}`)
    files.push(digest)
  }
  return { digest: index.manifests[0]?.digest, files, unpacked: [] }
}

/** Hands a client a layout of the image, gone afterwards. */
export async function withLayout(image: Image, run: (folder: string) => Promise<unknown>): Promise<void> {
  await using layout = await tempFolder('layout')
  await writeOciLayout(layout.path, image)
  await run(layout.path)
}

/** Lets a client write a layout into an empty folder of this home, and reads it. */
export async function intoLayout(home: TempFolder, run: (folder: string) => Promise<unknown>): Promise<Held> {
  const folder = join(home.path, 'pulled')
  await rm(folder, { recursive: true, force: true }) // A layer that is there would not be fetched.
  await run(folder)
  return await readLayout(folder)
}
