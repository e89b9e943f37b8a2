/** What the conformance run concludes from two reports; the cases themselves are run by `npm run conformance`. */
import { describe, expect, it } from 'vitest'
import { compareRuns } from './compare.ts'
import { type CaseResult, type CaseStatus, readJunit, writeJunit } from './junit.ts'
import { failsInOutage } from './official.ts'

const result = (name: string, status: CaseStatus, output = ''): CaseResult => ({
  group: 'image',
  name,
  status,
  message: status === 'failed' ? 'expected 200, got 404' : '',
  output,
})

describe('two runs of a suite', () => {
  it('are as good as each other when what passes directly passes through', () => {
    const direct = [result('push', 'passed'), result('cancel', 'failed')]
    const through = [result('push', 'passed'), result('cancel', 'passed')]

    expect(compareRuns(direct, through)).toEqual({
      ranDirect: 2,
      passedDirect: 1,
      passedThrough: 2,
      worse: [],
      expected: [],
      different: [],
    })
  })

  it.each<[string, CaseResult[]]>([
    ['fails', [result('push', 'failed')]],
    ['is skipped', [result('push', 'skipped')]],
    ['does not run', [result('pull', 'passed')]],
  ])('differ for the worse when a case that passes directly %s through the secondary', (_, through) => {
    const { worse } = compareRuns([result('push', 'passed')], through)

    expect(worse.map(({ direct }) => direct.name)).toEqual(['push'])
  })

  it('may differ where a case must fail with the primary stopped, and nowhere else', () => {
    const direct = [
      result('nonexistent', 'passed'),
      result('nonexistent', 'passed'),
      result('pull', 'passed'),
    ]
    const through = [
      result('nonexistent', 'failed'),
      result('nonexistent', 'skipped'),
      result('pull', 'failed'),
    ]
    const { worse, expected } = compareRuns(direct, through, ({ name }) => name === 'nonexistent')

    expect(expected.map(({ through }) => through?.status)).toEqual(['failed'])
    expect(worse.map(({ through }) => [through?.name, through?.status])).toEqual([
      ['nonexistent', 'skipped'],
      ['pull', 'failed'],
    ])
  })

  it.each([
    ['Pull Pull blobs GET nonexistent blob should result in 404 response', 503, true],
    ['Pull Pull blobs GET nonexistent blob should result in 404 response', 500, false],
    ['Pull Pull blobs GET request to existing blob URL should yield 200', 503, false],
    ['Pull Pull manifests GET nonexistent manifest should return 404', 503, false],
  ])(
    'of the official suite may differ in an outage for a blob that is nowhere: %s, %i',
    (name, status, may) => {
      const message = `Expected\n    <int>: ${status}\nto equal\n    <int>: 404`

      expect(failsInOutage({ ...result(name, 'failed'), message })).toBe(may)
    },
  )

  it('are compared in order where a suite runs the same case twice', () => {
    const direct = [result('push', 'passed'), result('push', 'passed')]
    const { worse } = compareRuns(direct, [result('push', 'passed'), result('push', 'failed', 'second')])

    expect(worse.map(({ through }) => through?.output)).toEqual(['second'])
  })

  it('show what fails on both sides with other answers', () => {
    const direct = [
      result('mount', 'failed', '> POST\n< 202\n< 400'),
      result('list', 'failed', '> GET\n< 404'),
    ]
    const through = [
      result('mount', 'failed', '> POST\n< 202\n< 500'),
      result('list', 'failed', '> GET\n< 404'),
    ]

    expect(compareRuns(direct, through).different.map(({ direct }) => direct.name)).toEqual(['mount'])
  })
})

describe('a report', () => {
  it('is read as it was written, whatever stands in it', () => {
    const results = [
      result('GET "a" <b> & \'c\'\n', 'passed', '< 200\n    link: <x>; rel="next"\n]]></testcase>'),
      result('refused', 'failed', '> GET\n< 404'),
      { ...result('left out', 'skipped'), message: 'no such API' },
    ]

    expect(readJunit(writeJunit('ours', results))).toEqual(results)
  })

  it('of the official suite is read too: Go escapes, CDATA and nested suites', () => {
    const xml = `<?xml version="1.0" encoding="UTF-8"?>
      <testsuites tests="4"><testsuite name="OCI" tests="4"><properties><property name="a" value="b"></property></properties>
      <testcase name="head" classname="OCI/image" time="0.1" status="passed"><system-out>&lt; 200&#xA;</system-out></testcase>
      <testcase name="anonymous mount" classname="OCI/blobs" status="skipped"><skipped message="" type=""><![CDATA[not <here>]]></skipped></testcase>
      <testcase name="get" classname="OCI/image" status="failure"><failure message="got &#34;404&#34;"><![CDATA[</testcase>]]></failure></testcase>
      <testcase name="put" classname="OCI/image" status="error"><error message="refused"></error></testcase>
      </testsuite></testsuites>`

    expect(readJunit(xml).map(({ group, name, status, message }) => [group, name, status, message])).toEqual([
      ['OCI/image', 'head', 'passed', ''],
      ['OCI/blobs', 'anonymous mount', 'skipped', 'not <here>'],
      ['OCI/image', 'get', 'failed', 'got "404"'],
      ['OCI/image', 'put', 'failed', 'refused'],
    ])
  })

  it('without a case is refused, as nothing was proved', () => {
    expect(() => readJunit('<testsuites></testsuites>')).toThrow('did not run')
  })
})
