/** Each way an epoch can end, and what a person is told of it. */
import { expect, it } from 'vitest'
import { readLogPage } from '../../../replicator/relay-answer.ts'
import { A, B, createEpochsScene } from './epochs-scene.ts'

function begun(options: Parameters<typeof createEpochsScene>[0] = {}) {
  const scene = createEpochsScene(options)
  scene.begin()
  return scene
}

it('ends when a canary is not back after 2 s', () => {
  const scene = begun()
  scene.epochs.sending(B)

  scene.wait(2_000)
  expect(scene.epochs.watermark()).toBeDefined()
  scene.wait(250)

  expect(scene.epochs.watermark()).toBeUndefined()
  expect(scene.ended()).toMatchObject({ reason: 'canary-missing', instance: B })
  expect(scene.epochs.note()).toBe(
    'A canary sent to http://10.0.0.2:5000 did not come back as an event within 2 s; check that this registry is ' +
      'configured to notify this relay, that its notifications are not ignored (relay.canary.kind) and not delayed, ' +
      'and that its queue is short.',
  )
  expect(scene.epochs.state().canaries.lost).toBe(1)
})

it('ends when a canary comes back late, whether or not anybody looked at the clock before', () => {
  const scene = begun()
  const canary = scene.epochs.sending(B)
  scene.wait(2_001)

  scene.hear('process-b', canary)

  expect(scene.ended()).toMatchObject({ reason: 'canary-missing', instance: B })
})

it('ends when a canary comes back before an earlier one', () => {
  const scene = begun()
  scene.epochs.sending(A)
  scene.wait(500)

  scene.hear('process-a', scene.epochs.sending(A))

  expect(scene.ended()).toMatchObject({ reason: 'canary-out-of-order', instance: A })
  expect(scene.ended().sentence).toMatch(
    /came back before an earlier one: an event was lost; check .*retries/,
  )
})

it('ends when the instance does not take a canary', () => {
  const scene = begun()

  scene.epochs.refused(A, 'it answered 401', scene.epochs.sending(A))

  expect(scene.ended()).toMatchObject({ reason: 'canary-refused', instance: A })
  expect(scene.ended().sentence).toMatch(
    /^The instance http:\/\/10.0.0.1:5000 did not take a canary: it answered 401; check .*relay.canary.repository\.$/,
  )
})

it('ends when an event comes from a process that no canary has come back from', () => {
  const scene = begun()

  scene.hear('process-c')

  expect(scene.ended()).toMatchObject({ reason: 'unknown-instance', instance: 'process-c' })
  expect(scene.ended().sentence).toMatch(
    /process process-c, which .*name every process of it in relay.instances\.$/,
  )
})

it('ends when an event does not say which process it is from', () => {
  const scene = begun()

  scene.hear(undefined)

  expect(scene.ended()).toMatchObject({ reason: 'unknown-instance', instance: 'without an instanceID' })
})

it('does not begin again as long as a process goes on that nobody named', () => {
  const scene = begun()

  for (let times = 0; times < 20; times++) {
    scene.beat()
    scene.hear('process-c')
  }

  expect(scene.epochs.watermark()).toBeUndefined()
  expect(scene.epochs.note()).toContain('name every process of it')
  expect(scene.epochs.state().ends['unknown-instance']).toBe(1)
  expect(scene.begin()).toBeGreaterThanOrEqual(5_000)
})

it('ends when an address is answered by another process, and begins again with it after a restart', () => {
  const scene = begun()
  const former = scene.epochs.watermark()?.epoch
  scene.processes.set(A, 'process-a2')

  scene.beat()

  expect(scene.ended()).toMatchObject({ reason: 'instance-changed', instance: A })
  expect(scene.ended().sentence).toMatch(
    /\(process-a, then process-a2\); if the registry was restarted .*load balancer/,
  )
  expect(scene.begin()).toBeGreaterThanOrEqual(4_000)
  expect(scene.epochs.watermark()?.epoch).not.toBe(former)
  expect(scene.epochs.state().instances[0]).toMatchObject({ address: A, instanceId: 'process-a2' })
  scene.hear('process-a')
  expect(scene.epochs.state().lastEnd.reason).toBe('unknown-instance')
})

it('never begins behind a load balancer', () => {
  const scene = createEpochsScene()

  for (let times = 0; times < 30; times++) {
    scene.processes.set(A, `process-${times % 2}`)
    scene.beat()
  }

  expect(scene.epochs.watermark()).toBeUndefined()
  expect(scene.epochs.note()).toContain('this address is a load balancer')
})

it('ends when an instance joins, and the next one has canaries of it', () => {
  const scene = begun()
  const added = 'http://10.0.0.3:5000'

  scene.epochs.instances([A, B, added])
  scene.beat(10)

  expect(scene.ended()).toMatchObject({ reason: 'instance-joined', instance: added })
  expect(scene.ended().sentence).toBe(
    'The instance http://10.0.0.3:5000 joined those of the registry; after a deliberate change nothing is to be done ' +
      'unless it goes on.',
  )
  expect(scene.epochs.watermark()).toBeUndefined()
  scene.processes.set(added, 'process-c')
  scene.begin()
})

it('ends when an instance leaves, and what it still returns of its canaries is nobody unknown', () => {
  const scene = begun()
  const canary = scene.epochs.sending(B)

  scene.epochs.instances([A])
  scene.hear('process-b', canary)

  expect(scene.ended()).toMatchObject({ reason: 'instance-left', instance: B })
  expect(scene.ended().sentence).toMatch(/^The instance http:\/\/10.0.0.2:5000 left those of the registry; /)
  expect(scene.epochs.state().setback).toBeUndefined()
  scene.processes.delete(B)
  scene.begin()
  scene.hear('process-b')
  expect(scene.epochs.state().lastEnd.reason).toBe('unknown-instance')
})

it('ends when the names cannot be resolved, and does not begin before they can', () => {
  const scene = begun()

  scene.epochs.unresolved(new Error('registry.internal: ENOTFOUND'))
  scene.beat(10)

  expect(scene.ended()).toMatchObject({ reason: 'unresolved' })
  expect(scene.ended().sentence).toMatch(
    /could not be resolved: registry.internal: ENOTFOUND; check the names and/,
  )
  expect(scene.epochs.watermark()).toBeUndefined()
  scene.epochs.instances([A, B])
  expect(scene.epochs.watermark()).toBeDefined()
})

it('ends when a notification was refused', () => {
  const scene = begun()

  scene.epochs.receiverFailed('too_large')

  expect(scene.ended().reason).toBe('receiver-failed')
  expect(scene.ended().sentence).toMatch(
    /refused a notification \(too_large\), and its sender may .*; see the relay's log/,
  )
})

it('ends when as many events come between a canary and the next as a queue holds', () => {
  const scene = begun({ queueSize: 100 })
  scene.hear('process-a', scene.epochs.sending(A))
  const next = scene.epochs.sending(A)

  for (let event = 0; event < 98; event++) scene.hear('process-a')
  scene.hear('process-a', next)

  expect(scene.ended()).toMatchObject({ reason: 'queue-overflow', instance: 'process-a' })
  expect(scene.ended().sentence).toMatch(
    /its queue may have been full; raise the queue size .*relay.queuesize/,
  )
})

it('counts what came since the earlier canary was sent, and not only since it came back', () => {
  const scene = begun({ queueSize: 100 })
  const canary = scene.epochs.sending(A)
  for (let event = 0; event < 60; event++) scene.hear('process-a')
  scene.hear('process-a', canary)

  for (let event = 0; event < 40; event++) scene.hear('process-a')

  expect(scene.ended()).toMatchObject({ reason: 'queue-overflow' })
})

it('ends when the log could not be written', () => {
  const scene = begun()

  scene.epochs.logFailed(new Error('ENOSPC: no space left on device'))

  expect(scene.ended().reason).toBe('log-failed')
  expect(scene.ended().sentence).toMatch(/could not write its log: ENOSPC.*; make room on its disk/)
})

it('ends when the relay sent no canary for so long that a sender may have given an event up in between', () => {
  const scene = begun()

  scene.wait(4_000)

  expect(scene.ended()).toMatchObject({ reason: 'relay-paused' })
  expect(scene.ended().sentence).toMatch(/the relay itself stood still or sent no canary|^The relay itself/)
})

it('takes the blame when it was the relay that stood still, and believes no canary that came meanwhile', () => {
  const scene = createEpochsScene()
  let stoodStillMs = 0
  const blamed = createEpochsScene({ now: () => scene.nowMs() + stoodStillMs })
  const beat = () => {
    for (const [address, process] of blamed.processes) blamed.hear(process, blamed.epochs.sending(address))
    for (let times = 0; times < 4; times++) {
      scene.wait(250)
      blamed.epochs.tick()
    }
  }
  for (let beats = 0; beats < 8; beats++) beat()
  expect(blamed.epochs.watermark()).toBeDefined()
  const canary = blamed.epochs.sending(A)

  stoodStillMs = 3_000
  blamed.hear('process-a', canary)

  expect(blamed.ended()).toMatchObject({ reason: 'relay-paused', instance: A })
  expect(blamed.epochs.watermark()).toBeUndefined()
})

it('says so in few enough words for a site to take, however many or long the names are', () => {
  const scene = begun()
  const many = Array.from(
    { length: 500 },
    (_, at) => `https://registry.gitlab.svc.cluster.local (10.0.1.${at})`,
  )
  scene.epochs.instances([A, B, ...many])
  expect(scene.ended()).toMatchObject({ reason: 'instance-joined' })
  const notes = [scene.epochs.note()]
  scene.epochs.refused(A, 'x'.repeat(100_000))
  notes.push(scene.epochs.note())

  for (const note of notes) {
    const page = { log: 'l', records: [], through: 0, last: 0, settledThrough: 0, heldMs: 0, note }
    expect(readLogPage(JSON.stringify(page)).note).toBe(note)
    expect(note).toMatch(/(unless it goes on|relay\.canary\.repository)\.$/)
  }
})

it('goes on blaming the log for what follows from it, until it is written or another epoch has begun', () => {
  const scene = begun()
  scene.epochs.logFailed(new Error('ENOSPC'))
  scene.epochs.receiverFailed('unavailable')
  scene.epochs.sending(A)
  scene.wait(2_250)

  expect(scene.epochs.note()).toMatch(/could not write its log: ENOSPC; make room on its disk/)
  expect(scene.epochs.state().setback).toMatchObject({ reason: 'log-failed' })

  scene.hear('process-a')
  scene.epochs.receiverFailed('malformed')
  expect(scene.epochs.state().setback).toMatchObject({ reason: 'receiver-failed' })
  scene.epochs.logFailed(new Error('ENOSPC'))
  scene.begin()
  scene.epochs.receiverFailed('malformed')
  expect(scene.epochs.state().lastEnd).toMatchObject({ reason: 'receiver-failed' })
})
