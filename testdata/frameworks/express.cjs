// An API with Express behind serverless-express.
const serverlessExpress = require('@codegenie/serverless-express')
const express = require('express')

const app = express()
app.disable('x-powered-by')
app.disable('etag')
app.use(express.json())

app.get('/orders/:id', (req, res) => {
  const { context } = serverlessExpress.getCurrentInvoke()
  res.cookie('first', '1').cookie('second', '2')
  res.json({ id: req.params.id, colours: req.query.colour, requestID: context.awsRequestId })
})

app.post('/orders', (req, res) => res.status(201).json({ created: req.body.item }))

app.get('/picture', (req, res) => res.type('image/png').send(Buffer.from([0x89, 0x50, 0, 0xff])))

app.get('/broken', () => { throw new Error('the database is gone') })

app.use((error, req, res, next) => res.status(error.status ?? 500).json({ error: error.message }))

exports.handler = serverlessExpress({ app })
