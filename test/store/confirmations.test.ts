import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { createConfirmations } from '../../src/store/confirmations.ts'
import { createDurableFiles } from '../../src/store/durable-files.ts'
import { EXPIRED_AT_MS } from '../../src/store/expiries.ts'
import { createStorePaths, linkEntry } from '../../src/store/paths.ts'
import { tempFolder } from '../support/temp.ts'
import { nameOf } from './store-fixture.ts'

it('a confirmation that was dropped is not renewed, one that expired is, and both are read as they were left', async () => {
  await using folder = await tempFolder('confirmations')
  const paths = createStorePaths(folder.path)
  const incoming = join(folder.path, 'incoming')
  await mkdir(incoming)
  const confirmations = createConfirmations(paths, createDurableFiles(folder.path, incoming))
  const name = nameOf('team/app')
  const digest = digestOf(Buffer.from('m'))
  const entry = linkEntry('manifest', digest)
  const read = () => confirmations.read(name, entry, digest)
  const atMs = 1_800_000_000_000

  expect(await confirmations.renew(name, entry, digest, atMs)).toBe(false)
  expect(await read()).toBeUndefined()

  await confirmations.write(name, entry, digest, atMs)
  await confirmations.expire(name, entry, digest)
  expect(await read()).toBe(EXPIRED_AT_MS)
  expect(await confirmations.renew(name, entry, digest, atMs + 1)).toBe(true)
  expect(await read()).toBe(atMs + 1)
  expect(await confirmations.renew(name, entry, digest, EXPIRED_AT_MS)).toBe(true)
  expect(await read()).toBe(EXPIRED_AT_MS)

  await confirmations.drop(name, entry)
  expect(await confirmations.renew(name, entry, digest, atMs)).toBe(false)
  expect(await read()).toBeUndefined()
})
