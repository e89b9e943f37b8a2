import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pino from 'pino'
import { describe, expect, it } from 'vitest'
import { createMetrics } from '../../src/metrics.ts'
import { openStore } from '../../src/store/store.ts'
import { tempFolder } from '../support/temp.ts'
import { nameOf, putManifest, storeFixture, tagOf } from './store-fixture.ts'

const deps = { log: pino({ level: 'silent' }), metrics: createMetrics() }

describe('opening a store', () => {
  it('makes a folder that GitLab’s registry does not take for empty', async () => {
    await using fixture = await storeFixture()
    const marker = join(fixture.root, 'docker/registry/lockfiles/filesystem-in-use')

    expect(await readFile(marker, 'utf8')).toBe('')
    expect((await readdir(fixture.root)).sort()).toEqual(['docker', 'geo-registry'])
  })

  it('opens again what it made, with all that is in it', async () => {
    await using fixture = await storeFixture()
    const digest = await putManifest(fixture.store, nameOf('app'), 'kept', tagOf('latest'))

    const store = await fixture.reopen()

    expect(await store.index.tag(nameOf('app'), tagOf('latest'))).toMatchObject({ digest })
    expect(await store.blobs.read(digest, 100)).toEqual(Buffer.from('kept'))
  })

  it.each(['2\n', '', 'one', '10'])('refuses format %j and says what to do', async (version) => {
    await using folder = await tempFolder()
    await folder.write('geo-registry/version', version)

    const refused = openStore(folder.path, {}, deps)

    await expect(refused).rejects.toThrow(
      /geo-registry\/version says format .* start the version of geo-registry/,
    )
    expect(await readdir(folder.path)).toEqual(['geo-registry'])
  })

  it('says which folder cannot be used', async () => {
    await using folder = await tempFolder()
    await writeFile(join(folder.path, 'file'), '')

    await expect(openStore(join(folder.path, 'file'), {}, deps)).rejects.toThrow(join(folder.path, 'file'))
  })
})
