/** Captures of several processes lie in one folder: who starts removes only what is nobody's any longer. */
import { readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createCaptures } from '../../proxy/capture.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { openStore } from '../../src/store/store.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'

it('leaves another process the pushes it is keeping, and removes what a killed one left long ago', async () => {
  await using folder = await tempFolder('captures')
  const deps = { log: createLogger({ level: 'silent' }), metrics: createMetrics() }
  const store = await openStore(join(folder.path, 'root'), {}, deps)
  const spools = store.paths.spools
  await writeFile(join(spools, 'capture-under-way'), 'bytes')
  await writeFile(join(spools, 'capture-left-behind'), 'bytes')
  await writeFile(join(spools, 'sha256-00.data'), 'a spool')
  const longAgo = new Date(Date.now() - 2 * 3_600_000)
  await utimes(join(spools, 'capture-left-behind'), longAgo, longAgo)

  const beside = await createCaptures({ ...deps, blobs: store.blobs }, { folder: spools, isShared: true })
  expect((await readdir(spools)).toSorted()).toEqual(['capture-under-way', 'sha256-00.data'])
  const alone = await createCaptures({ ...deps, blobs: store.blobs }, { folder: spools })
  expect(await readdir(spools)).toEqual(['sha256-00.data'])

  await beside.close()
  await alone.close()
  await store.close()
})

it('what a process was keeping when it was killed goes once it is idle, though no process starts after that', async () => {
  await using folder = await tempFolder('captures')
  const deps = { log: createLogger({ level: 'silent' }), metrics: createMetrics() }
  const store = await openStore(join(folder.path, 'root'), {}, deps)
  const spools = store.paths.spools
  await writeFile(join(spools, 'capture-left-behind'), 'bytes')

  const options = { folder: spools, isShared: true, idleMs: 300 }
  const beside = await createCaptures({ ...deps, blobs: store.blobs }, options)
  expect(await readdir(spools)).toEqual(['capture-left-behind'])
  await until(async () => (await readdir(spools)).length === 0, { what: 'it to be removed' })

  await beside.close()
  await store.close()
})
